/** Answers that say by a tag what they are: whoever has the same already gets 304 and no body. */
import { createHash } from 'node:crypto';
import type { Server } from './deps.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Answers of this route bear a tag of their content. */
    etag?: boolean;
  }
}

/** Let routes that declare `etag` answer by tag. The tag is made of the body, so the same answer has the same tag on every replica. */
export function answerByTag(app: Server): void {
  app.addHook('onSend', async (request, reply, payload) => {
    if (request.routeOptions.config.etag !== true || reply.statusCode !== 200 || typeof payload !== 'string') return payload;
    const tag = `W/"${createHash('sha256').update(payload).digest('base64url').slice(0, 27)}"`;
    // It may be kept by whoever asked, and must be asked for anew.
    void reply.headers({ etag: tag, 'cache-control': 'private, no-cache' });
    if (!isAmong(tag, request.headers['if-none-match'])) return payload;
    void reply.code(304).removeHeader('content-type').removeHeader('content-length');
    return null;
  });
}

function isAmong(tag: string, header: string | undefined): boolean {
  if (header === undefined) return false;
  const bare = (each: string) => each.trim().replace(/^W\//, '');
  return header.trim() === '*' || header.split(',').some((each) => bare(each) === bare(tag));
}
