/** API keys of the one who asks: list, make narrower ones, rotate, revoke. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import {
  countKeys,
  findKeyOf,
  isEndedBy,
  type KeyRequest,
  type KeyRow,
  listKeys,
  lockKeysOf,
  revokeKey,
} from '../../persistence/api-keys.ts';
import { findUser } from '../../persistence/api-users.ts';
import { recordAudit } from '../../persistence/audit.ts';
import type { Transaction } from '../../persistence/database.ts';
import { Problem } from '../errors.ts';
import { issueKey, LONGEST_TTL_HOURS } from '../identity/api-key.ts';
import { endRepeated } from '../identity/login.ts';
import { type Scope, SCOPES } from '../identity/principal.ts';
import { DEFAULT_IDENTITY } from '../identity/settings.ts';
import { keyRequestName, principalOf } from './access.ts';
import { answerOf, KeyAnswer } from './auth.ts';
import type { HttpDeps, Server } from './deps.ts';
import { idempotencyKey, wishOf } from './once.ts';
import { problems } from './problems.ts';
import { auditOf } from './user.ts';

/** How long after a login its keys may be rotated, in days. */
const ROTATE_DAYS = 30;
const MOST_SHOWN = 200;

const Scopes = z.enum(SCOPES);

const KeyView = z
  .object({
    id: z.number().int(),
    key_prefix: z.string(),
    description: z.string().nullable(),
    scopes: z.array(Scopes),
    source: z.enum(['aws', 'local', 'key']).meta({ description: 'By what it was got: a login, or another key.' }),
    created_at: z.string(),
    expires_at: z.string(),
    last_used_at: z.string().nullable().meta({ description: 'To the minute or so.' }),
    revoked_at: z.string().nullable(),
    current: z.boolean().meta({ description: 'The key of this request.' }),
  })
  .meta({ description: 'An API key, without the key itself.' });

const Wanted = z.strictObject({
  description: z.string().max(200).nullish(),
  scopes: z.array(Scopes).min(1).max(SCOPES.length).nullish().meta({ description: 'By default those of this key.' }),
  ttl_hours: z
    .number()
    .min(0.1)
    .max(LONGEST_TTL_HOURS)
    .nullish()
    .meta({ description: 'By default, and at most, that of a login.' }),
});

export function keyRoutes(app: Server, deps: HttpDeps): void {
  const { db, identity = DEFAULT_IDENTITY } = deps;

  app.get(
    '/v1/keys',
    {
      config: { access: { scope: 'read', on: 'self' } },
      schema: {
        tags: ['identity'],
        summary: 'Your API keys, newest first',
        response: { 200: z.object({ keys: z.array(KeyView) }), ...problems(401, 403, 503) },
      },
    },
    async (request) => {
      const { userId, keyId } = principalOf(request);
      return { keys: (await listKeys(db, userId, MOST_SHOWN)).map((row) => viewOf(row, keyId)) };
    },
  );

  app.post(
    '/v1/keys',
    {
      config: { access: { scope: 'read', on: 'self' } },
      schema: {
        tags: ['identity'],
        summary: 'Another key, that may do no more than the one of this request',
        description:
          'With an Idempotency-Key a repeated request makes another key and ends the first, which is kept nowhere and cannot be told again.',
        body: Wanted.nullish(),
        response: { 201: KeyAnswer, ...problems(400, 401, 403, 409, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      const { description = null, scopes, ttl_hours: ttl } = request.body ?? {};
      const principal = principalOf(request);
      const beyond = scopes?.find((scope) => !principal.scopes.has(scope));
      if (beyond !== undefined) throw lacks(beyond, principal.scopes);
      if (ttl !== undefined && ttl !== null && ttl > identity.keyTtlHours) {
        throw new Problem('GPU_FIELD_INVALID', `The field ttl_hours: a key lives ${identity.keyTtlHours} h at most here`, {
          field: 'ttl_hours',
          details: { most: identity.keyTtlHours },
        });
      }
      let hasEnded = false;
      const made = await db.withTransaction(async (tx) => {
        await lockKeysOf(tx, principal.userId);
        hasEnded = await endSame(tx, request, 'key.create');
        await refuseTooMany(tx, principal.userId);
        const wanted = { description, scopes: scopes ?? [...principal.scopes], ttl: ttl ?? identity.keyTtlHours };
        return another(tx, request, wanted, 'key.create');
      });
      if (hasEnded) app.keyRing.forget();
      return reply.code(201).send(made);
    },
  );

  app.post(
    '/v1/keys/rotate',
    {
      config: { access: { scope: 'read', on: 'self' }, endsOwnKey: 'key.rotate' },
      schema: {
        tags: ['identity'],
        summary: 'A new key in the place of the one of this request',
        description:
          `The old one stays valid until it expires, unless \`revoke\` is true. Possible for ${ROTATE_DAYS} days after a login. With an ` +
          'Idempotency-Key, a request whose answer was lost can be sent again for five minutes, by the key that it revoked too.',
        body: z.strictObject({ revoke: z.boolean().nullish() }).nullish(),
        response: { 200: KeyAnswer, ...problems(400, 401, 403, 409, 413, 415, 503) },
      },
    },
    async (request) => {
      const { userId, keyId } = principalOf(request);
      let hasEnded = request.body?.revoke === true;
      const made = await db.withTransaction(async (tx) => {
        await lockKeysOf(tx, userId);
        const known = requestOf(request, 'key.rotate');
        const isSentAgain = known !== null && (await isEndedBy(tx, userId, keyId, known.key));
        if (await endSame(tx, request, 'key.rotate')) hasEnded = true;
        if (request.body?.revoke !== true) await refuseTooMany(tx, userId);
        const old = await mustFind(tx, userId, keyId);
        const ttl = Math.min(identity.keyTtlHours, (old.expires_at.getTime() - old.created_at.getTime()) / 3_600_000);
        const wanted = { description: old.description, scopes: old.scopes, ttl };
        const answer = await another(tx, request, wanted, 'key.rotate', isSentAgain);
        if (request.body?.revoke === true && old.is_active) {
          await revokeKey(tx, userId, keyId);
          await recordAudit(tx, auditOf(request, 'key.revoke', `key/${keyId}`, { key: old.key_prefix }));
        }
        return answer;
      });
      if (hasEnded) app.keyRing.forget();
      return made;
    },
  );

  app.delete(
    '/v1/keys/:id',
    {
      config: { access: { scope: 'read', on: 'self' } },
      schema: {
        tags: ['identity'],
        summary: 'Revoke a key; it ends at once, within five seconds on other replicas',
        params: z.object({ id: z.coerce.number().int().min(1).max(2_147_483_647) }),
        response: { 200: KeyView, ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request) => {
      const { userId, keyId, scopes } = principalOf(request);
      const row = await db.withTransaction(async (tx) => {
        const { scopes: others } = await mustFind(tx, userId, request.params.id);
        // Who may only read must not lock out who may more.
        const beyond = others.find((scope) => !scopes.has(scope as Scope)) as Scope | undefined;
        if (beyond !== undefined) throw lacks(beyond, scopes);
        const revoked = (await revokeKey(tx, userId, request.params.id))!;
        await recordAudit(tx, auditOf(request, 'key.revoke', `key/${revoked.key_id}`, { key: revoked.key_prefix }));
        return revoked;
      });
      app.keyRing.forget();
      return viewOf(row, keyId);
    },
  );

  /** The key that this same request made before ends. @returns whether there was one */
  async function endSame(tx: Transaction, request: FastifyRequest, action: string): Promise<boolean> {
    const known = requestOf(request, action);
    const { userId, user, keyId, keyPrefix } = principalOf(request);
    const from = { address: request.ip, requestId: request.id, keyPrefix };
    return known !== null && endRepeated(tx, { user_id: userId, name: user }, known, from, keyId);
  }

  /** @throws Problem 409 if the user has as many keys as they may */
  async function refuseTooMany(tx: Transaction, userId: number): Promise<void> {
    const { count, firstEnd } = await countKeys(tx, userId);
    if (count < identity.keysPerUser) return;
    throw new Problem('GPU_KEYS_TOO_MANY', `You have ${count} keys that may be used, and may have ${identity.keysPerUser}`, {
      details: { maximum: identity.keysPerUser, first_ends_at: firstEnd?.toISOString() ?? null },
    });
  }

  /** A key beside the one of this request, of the same login. @param isSentAgain whether this request itself ended that one */
  async function another(
    tx: Transaction,
    request: FastifyRequest,
    wanted: { description: string | null; scopes: readonly string[]; ttl: number },
    action: string,
    isSentAgain = false,
  ): Promise<z.infer<typeof KeyAnswer>> {
    const { userId, keyId } = principalOf(request);
    const own = await mustFind(tx, userId, keyId);
    // What was known of it some seconds ago does not count here: a key that has ended must not live on in another.
    if ((!own.is_active && !isSentAgain) || own.expires_at <= new Date()) {
      throw new Problem('GPU_KEY_INVALID', `The API key ${own.key_prefix}… has ended`);
    }
    const { authenticated_at: since } = own;
    const left = since.getTime() / 3_600_000 + ROTATE_DAYS * 24 - Date.now() / 3_600_000;
    if (left <= 0) throw new Problem('GPU_KEY_TOO_OLD', `The login of this key is more than ${ROTATE_DAYS} days ago`);
    const ttlHours = Math.min(wanted.ttl, left);
    const { key, row } = await issueKey(tx, {
      userId,
      ttlHours,
      scopes: wanted.scopes,
      source: 'key',
      description: wanted.description,
      authenticatedAt: since,
      request: requestOf(request, action),
    });
    await recordAudit(
      tx,
      auditOf(request, action, `key/${row.key_id}`, {
        key: row.key_prefix,
        scopes: row.scopes,
        expires_at: row.expires_at.toISOString(),
      }),
    );
    return answerOf({ key, row, user: (await findUser(tx, userId))!, ttlHours });
  }
}

/** By what this request is known when it is sent again; null if it bears no key. */
function requestOf(request: FastifyRequest, action: string): KeyRequest | null {
  const key = idempotencyKey(request);
  return key === null ? null : { key: keyRequestName(action, key), wish: wishOf(request.body ?? {}) };
}

async function mustFind(tx: Transaction, userId: number, keyId: number): Promise<KeyRow> {
  const row = await findKeyOf(tx, userId, keyId);
  if (row === null) throw new Problem('GPU_KEY_UNKNOWN', `You have no key ${keyId}`, { field: 'id' });
  return row;
}

function lacks(scope: Scope, has: ReadonlySet<Scope>): Problem {
  return new Problem('GPU_SCOPE_MISSING', `This key lacks the scope ${scope} itself`, { details: { scope, has: [...has] } });
}

function viewOf(row: KeyRow, current: number): z.infer<typeof KeyView> {
  return {
    id: row.key_id,
    key_prefix: row.key_prefix,
    description: row.description,
    scopes: row.scopes as Scope[],
    source: row.source,
    created_at: row.created_at.toISOString(),
    expires_at: row.expires_at.toISOString(),
    last_used_at: row.last_used_at?.toISOString() ?? null,
    revoked_at: row.revoked_at?.toISOString() ?? null,
    current: row.key_id === current,
  };
}
