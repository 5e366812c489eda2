/** How to get an API key: by an identity of AWS, or, on a laptop, by being there. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { UserName } from '../../actors/intake/messages.ts';
import { userOfLogin } from '../../persistence/api-users.ts';
import { Problem } from '../errors.ts';
import { arrivesLocally } from '../identity/loopback.ts';
import { type Login, logIn } from '../identity/login.ts';
import { DEFAULT_IDENTITY } from '../identity/settings.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';

/** A key that was just made. */
export const KeyAnswer = z
  .object({
    api_key: z.string().meta({ description: 'The key itself. It is told once, here, and kept nowhere.' }),
    key_prefix: z.string(),
    user_id: z.number().int(),
    username: z.string().meta({ description: 'The name that owns what you make.' }),
    aws_arn: z.string().nullable(),
    expires_at: z.string(),
    ttl_hours: z.number(),
    scopes: z.array(z.enum(['read', 'reserve', 'disks', 'admin'])),
  })
  .meta({ description: 'A new API key.' });

/** A login as an answer. */
export function answerOf({ key, row, user, ttlHours }: Login): z.infer<typeof KeyAnswer> {
  return {
    api_key: key.reveal(),
    key_prefix: row.key_prefix,
    user_id: user.user_id,
    username: user.name,
    aws_arn: user.aws_arn,
    expires_at: row.expires_at.toISOString(),
    ttl_hours: ttlHours,
    scopes: row.scopes as z.infer<typeof KeyAnswer>['scopes'],
  };
}

export function authRoutes(app: Server, deps: HttpDeps): void {
  const { db, identity = DEFAULT_IDENTITY } = deps;
  app.post(
    '/v1/auth/local-login',
    {
      config: { access: 'public' },
      schema: {
        tags: ['identity'],
        summary: 'A key for whoever is at this machine; in local mode, over the loopback address',
        body: z.strictObject({ username: UserName.nullish() }).nullish(),
        response: { 200: KeyAnswer, ...problems(400, 403, 409, 413, 415, 503) },
      },
    },
    async (request) => {
      if (!identity.local)
        throw new Problem('GPU_LOGIN_OFF', 'This service does not run in local mode; log in with gpu-dev login');
      refuseFromElsewhere(request);
      const username = request.body?.username ?? identity.admins[0] ?? 'local';
      const login = await db.withTransaction(async (tx) => {
        const user = await userOfLogin(tx, { account: '', username, awsArn: null, atHome: true });
        if (user === null) throw new Problem('GPU_NAME_TAKEN', `${username} is the name of a user who logs in with AWS`);
        return logIn(tx, user, identity, { source: 'local', address: request.ip, requestId: request.id });
      });
      return answerOf(login);
    },
  );
}

/** @throws Problem unless both ends of the connection are on this machine, and nobody stands between. */
function refuseFromElsewhere(request: FastifyRequest): void {
  const reason = arrivesLocally(request.raw, request.server.server);
  if (reason !== null) throw new Problem('GPU_LOGIN_OFF', `A local login is for those at this machine: ${reason}`);
}
