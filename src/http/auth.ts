/** How to get an API key: by an identity of AWS, or, on a laptop, by being there. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { check, UserName } from '../../actors/intake/messages.ts';
import { Secret } from '../../actors/secret.ts';
import { userOfLogin } from '../../persistence/api-users.ts';
import { Problem } from '../errors.ts';
import { AwsKeys, logInSigned, logInWithKeys, refuseIfOff } from '../identity/aws-login.ts';
import { arrivesLocally, comesFromHere } from '../identity/loopback.ts';
import { type Login, logIn } from '../identity/login.ts';
import { DEFAULT_IDENTITY } from '../identity/settings.ts';
import { SERVER_ID_HEADER, SignedRequest } from '../identity/signed-request.ts';
import { signingRegion, stsOf } from '../identity/sts.ts';
import type { HttpDeps, Server } from './deps.ts';
import { idempotencyKey } from './once.ts';
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

type AwsBody = SignedRequest | AwsKeys;

/** A key for a user as an answer. */
export function answerOf({ key, row, user, ttlHours }: Omit<Login, 'hasEnded'>): z.infer<typeof KeyAnswer> {
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
  const answer = (login: Login) => {
    if (login.hasEnded) app.keyRing.forget();
    return answerOf(login);
  };
  app.post(
    '/v1/auth/aws-login',
    {
      config: { access: 'public' },
      schema: {
        tags: ['identity'],
        summary: 'A key for an identity of AWS',
        description:
          'Send a signed STS GetCallerIdentity request (`method`, `url`, `headers`, `body`), which holds no secret: `GET` here tells for which ' +
          'host and region; the header `X-Gpu-Dev-Server-Id` must be among the signed ones and name this service. Or send the credentials ' +
          'themselves, where that is switched on, over TLS or on the machine itself.',
        body: z.union([SignedRequest, AwsKeys]),
        response: { 200: KeyAnswer, ...problems(400, 401, 403, 409, 413, 415, 503) },
      },
      validatorCompiler: () => (value) => {
        try {
          return { value: awsBody(value) };
        } catch (error) {
          return { error: error as Error };
        }
      },
    },
    async (request) => {
      const origin = { address: request.ip, requestId: request.id, key: idempotencyKey(request) };
      const body = request.body as AwsBody;
      if ('aws_access_key_id' in body) {
        refuseIfOff(identity.aws);
        refuseIfReadable(request, identity.aws.acceptKeys);
        return answer(await logInWithKeys(db, identity, new Secret(body), origin));
      }
      // Who asks on the machine itself may call the service by the machine's own names.
      const localNames = comesFromHere(request.raw) === null ? ['localhost', '127.0.0.1', '::1'] : [];
      return answer(await logInSigned(db, identity, body, localNames, origin));
    },
  );

  app.get(
    '/v1/auth/aws-login',
    {
      config: { access: 'public' },
      schema: {
        tags: ['identity'],
        summary: 'For what a signed request must be made',
        response: {
          200: z.object({
            enabled: z.boolean(),
            sts_host: z.string(),
            region: z.string(),
            server_id_header: z.string(),
            roles: z.array(z.string()),
            accepts_keys: z.boolean(),
          }),
        },
      },
    },
    async () => ({
      enabled: identity.aws.accounts.length > 0,
      sts_host: stsOf(identity.aws).host,
      region: signingRegion(identity.aws),
      server_id_header: SERVER_ID_HEADER,
      roles: [...identity.aws.roles],
      accepts_keys: identity.aws.acceptKeys,
    }),
  );

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
        return logIn(tx, user, identity, {
          source: 'local',
          address: request.ip,
          requestId: request.id,
          key: idempotencyKey(request),
        });
      });
      return answer(login);
    },
  );
}

/** One of the two bodies, told apart by what only one of them has: then a mistake in it can be named. */
function awsBody(body: unknown): AwsBody {
  refuseNothing(body);
  return 'aws_access_key_id' in body || 'aws_secret_access_key' in body ? check(AwsKeys, body) : check(SignedRequest, body);
}

function refuseNothing(body: unknown): asserts body is object {
  if (body !== null && typeof body === 'object' && !Array.isArray(body)) return;
  throw new Problem('GPU_MESSAGE_NOT_OBJECT', 'The body must be a JSON object', { field: '(body)' });
}

/** @throws Problem unless nobody on the way can read along */
function refuseIfReadable(request: FastifyRequest, accepted: boolean): void {
  if (!accepted) throw new Problem('GPU_LOGIN_OFF', 'Secret access keys are not accepted here; send a signed request');
  if (request.protocol === 'https' || comesFromHere(request.raw) === null) return;
  throw new Problem('GPU_LOGIN_UNSAFE', 'Secret access keys are accepted over TLS or on the machine itself only');
}

/** @throws Problem unless both ends of the connection are on this machine, and nobody stands between. */
function refuseFromElsewhere(request: FastifyRequest): void {
  const reason = arrivesLocally(request.raw, request.server.server);
  if (reason !== null) throw new Problem('GPU_LOGIN_OFF', `A local login is for those at this machine: ${reason}`);
}
