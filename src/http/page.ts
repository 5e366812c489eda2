/** GET /ui: the page for people, as it was built. All its files are in memory; what is not among them is not there. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { Problem } from '../errors.ts';
import type { Server } from './deps.ts';

/** Where the build puts it. */
export const BUILT_PAGE = fileURLToPath(new URL('../../visualizer/dist', import.meta.url));

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Nothing from elsewhere, nothing inline, no frame around it. */
export const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** The page that shows a reservation to the inspector. */
const INSPECT = 'inspect.html';

interface PageFile {
  type: string;
  tag: string;
  plain: Buffer;
  gzipped: Buffer;
  /** Its name changes with its content. */
  hashed: boolean;
}

/** The files of a built page by their path below it; empty if there is none. */
export function readPage(folder: string): Map<string, PageFile> {
  const files = new Map<string, PageFile>();
  const visit = (below: string): void => {
    for (const entry of readdirSync(join(folder, below), { withFileTypes: true })) {
      const path = below === '' ? entry.name : `${below}/${entry.name}`;
      if (entry.isDirectory()) visit(path);
      const type = TYPES[extname(path)];
      if (!entry.isFile() || type === undefined) continue;
      const plain = readFileSync(join(folder, path));
      const tag = `"${createHash('sha256').update(plain).digest('base64url').slice(0, 22)}"`;
      files.set(path, { type, tag, plain, gzipped: gzipSync(plain, { level: 9 }), hashed: path.startsWith('assets/') });
    }
  };
  try {
    visit('');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return files;
}

export interface PageSettings {
  /** Told when somebody has come who will soon want more. */
  onVisit: () => void;
  /** Where Stately's inspector is, if reservations may be shown to it. */
  inspector: string | null;
}

/** @returns whether there is a page */
export function pageRoutes(app: Server, folder: string, { onVisit, inspector }: PageSettings): boolean {
  const files = readPage(folder);
  if (inspector === null) files.delete(INSPECT);
  const bridge = inspector === null ? '' : `; frame-src ${new URL(inspector).origin}`;
  const answer = (request: FastifyRequest, reply: FastifyReply, path: string) => {
    const file = files.get(path);
    if (file !== undefined && !file.hashed) onVisit();
    if (path === INSPECT) void reply.header('x-inspector', inspector ?? '');
    if (file !== undefined) return send(request, reply, file, path === INSPECT ? `${POLICY}${bridge}` : POLICY);
    throw new Problem(
      'GPU_NOT_FOUND',
      files.size === 0 ? 'The page was not built: npm run build:page' : `The page has no file ${path.slice(0, 100)}`,
    );
  };
  const options = { config: { access: 'public' as const }, schema: { hide: true } };
  app.get('/ui', options, (request, reply) => answer(request, reply, 'index.html'));
  app.get(
    '/ui/*',
    { ...options, schema: { ...options.schema, params: z.object({ '*': z.string().max(300) }) } },
    (request, reply) => answer(request, reply, request.params['*'] || 'index.html'),
  );
  return files.size > 0;
}

function send(request: FastifyRequest, reply: FastifyReply, file: PageFile, policy: string): FastifyReply {
  const { type, tag, plain, gzipped, hashed } = file;
  void reply.headers({
    'cache-control': hashed ? 'public, max-age=31536000, immutable' : 'no-cache',
    etag: tag,
    vary: 'accept-encoding',
    'content-security-policy': policy,
    'referrer-policy': 'no-referrer',
    'cross-origin-opener-policy': 'same-origin',
  });
  const known = request.headers['if-none-match'];
  if (known?.split(',').some((each) => each.trim().replace(/^W\//, '') === tag)) return reply.code(304).send();
  const zipped = /\bgzip\b/.test(request.headers['accept-encoding'] ?? '');
  if (zipped) void reply.header('content-encoding', 'gzip');
  return reply.header('content-type', type).send(zipped ? gzipped : plain);
}

/** True for somebody who looks with a browser. */
export function wantsPage(request: FastifyRequest): boolean {
  return /^text\/html\b/.test(request.headers.accept ?? '');
}
