/** Actors that are in trouble: effects to be tried again, actors that were set aside, and whether histories tell what is stored. */
import { z } from 'zod';
import { verifyActor } from '../../actors/kernel/fold.ts';
import { parseAddress } from '../../actors/kernel/kind.ts';
import { migrateSnapshot, revive, ReviveError } from '../../actors/kernel/revive.ts';
import { findActor, listQuarantined, releaseActor } from '../../persistence/actor-store.ts';
import { listTroubledEffects } from '../../persistence/effect-retries.ts';
import { releaseHeldMail } from '../../persistence/mailbox.ts';
import { Problem } from '../errors.ts';
import { ADMIN, audit, Reason } from './admin-act.ts';
import { retryEffect } from './admin-replay.ts';
import { NAME, openCursor, sealCursor } from './cursor.ts';
import type { HttpDeps, Server } from './deps.ts';
import { iso } from './disk-view.ts';
import { actOnce, Key } from './once.ts';
import { problems } from './problems.ts';

const Address = z.string().regex(/^[a-z-]{1,40}\/[^\s\0]{1,200}$/, 'must be kind/id');
/** A verification stops asking for more after so long, in milliseconds; the answer says where to go on. */
const VERIFY_MS = 8_000;

const EffectView = z.object({
  effect_id: z.string(),
  actor: z.string(),
  type: z.string(),
  lane: z.string(),
  status: z.enum(['pending', 'done', 'failed', 'superseded']),
  attempts: z.number().int(),
  takeovers: z.number().int(),
  next_at: z.string(),
  created_at: z.string(),
  ended_at: z.string().nullable(),
  last_error: z.string().nullable(),
  running: z.boolean(),
});

const Verification = z.object({
  ok: z.boolean(),
  actors: z.number().int(),
  events: z.number().int(),
  problems: z.array(z.object({ actor: z.string(), problem: z.string() })),
  next_cursor: z.string().nullable().meta({ description: 'Where to go on; null: all have been looked at.' }),
});

export function actorRoutes(app: Server, { db, kernel }: HttpDeps): void {
  app.get(
    '/v1/admin/effects',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Effects that failed for good, or wait after a failed try; newest first',
        querystring: z.object({
          status: z.enum(['pending', 'failed']).default('pending'),
          actor: Address.optional(),
          limit: z.coerce.number().int().min(1).max(500).default(100),
        }),
        response: { 200: z.object({ effects: z.array(EffectView) }), ...problems(400, 401, 403, 503) },
      },
    },
    async (request) => {
      const { status, actor, limit } = request.query;
      const rows = await listTroubledEffects(db, { status, actor: actor ?? null, limit });
      return {
        effects: rows.map((row) => ({
          ...row,
          next_at: row.next_at.toISOString(),
          created_at: row.created_at.toISOString(),
          ended_at: iso(row.ended_at),
        })),
      };
    },
  );

  app.post(
    '/v1/admin/effects/retry',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Try an effect now: one that waits for its next try, or one that was given up and is still wanted',
        body: z.strictObject({ effect_id: z.string().min(1).max(300), reason: Reason.nullish(), idempotency_key: Key }),
        response: {
          200: z.object({ effect_id: z.string().meta({ description: 'Under which it runs now.' }) }),
          ...problems(400, 401, 403, 404, 409, 415, 503),
        },
      },
    },
    async (request) => {
      const { effect_id, reason } = request.body;
      const answer = await actOnce(db, request, async (tx) => {
        const id = await retryEffect(tx, effect_id);
        await audit(tx, request, {
          action: 'effect.retry',
          object: `effect/${effect_id}`,
          details: { as: id, reason: reason ?? null },
        });
        return { effect_id: id };
      });
      kernel.wake();
      kernel.wakeOthers();
      return answer;
    },
  );

  app.get(
    '/v1/admin/quarantine',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Actors whose snapshot could not be revived, with the mail that waits for them',
        querystring: z.object({ limit: z.coerce.number().int().min(1).max(500).default(100) }),
        response: {
          200: z.object({
            actors: z.array(z.object({ actor: z.string(), reason: z.string(), since: z.string(), mail: z.number().int() })),
          }),
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request) => ({
      actors: (await listQuarantined(db, request.query.limit)).map((row) => ({ ...row, since: row.since.toISOString() })),
    }),
  );

  app.post(
    '/v1/admin/quarantine/release',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Let an actor go on that was set aside; refused if its snapshot still cannot be revived',
        body: z.strictObject({ actor: Address, reason: Reason.nullish(), idempotency_key: Key }),
        response: {
          200: z.object({ actor: z.string(), mail: z.number().int().meta({ description: 'Messages set free.' }) }),
          ...problems(400, 401, 403, 404, 409, 415, 503),
        },
      },
    },
    async (request) => {
      const { actor, reason } = request.body;
      const answer = await actOnce(db, request, async (tx) => {
        const row = await findActor(tx, actor);
        if (row === null) throw noActor(actor);
        assertRevives(row);
        if (!(await releaseActor(tx, actor)))
          throw new Problem('GPU_ACTOR_NOT_REVIVED', `${actor} is not set aside`, { details: { state: row.state } });
        const mail = await releaseHeldMail(tx, [actor]);
        await audit(tx, request, { action: 'actor.release', object: actor, details: { reason: reason ?? null, mail } });
        return { actor, mail };
      });
      kernel.wake();
      kernel.wakeOthers();
      return answer;
    },
  );

  app.get(
    '/v1/admin/verifications',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Fold histories and compare them with what is stored: of one actor, or of all, page by page',
        querystring: z.object({
          actor: Address.optional(),
          limit: z.coerce.number().int().min(1).max(1_000).default(200),
          cursor: z.string().max(600).optional(),
        }),
        response: { 200: Verification, ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request) => {
      const { actor, limit, cursor } = request.query;
      const after = openCursor(cursor, NAME)?.[0] ?? '';
      const names = actor === undefined ? await actorsAfter(after, limit) : [actor];
      if (actor !== undefined && (await findActor(db, actor)) === null) throw noActor(actor);
      const end = performance.now() + VERIFY_MS;
      const found: z.infer<typeof Verification> = { ok: true, actors: 0, events: 0, problems: [], next_cursor: null };
      for (const name of names) {
        const { ok, problem, events } = await verifyActor(db, kernel.kinds, name);
        found.actors++;
        found.events += events;
        if (!ok) found.problems.push({ actor: name, problem: problem ?? 'it differs' });
        if (performance.now() > end) break;
      }
      const more = actor === undefined && (found.actors < names.length || names.length === limit);
      return { ...found, ok: found.problems.length === 0, next_cursor: more ? sealCursor(names[found.actors - 1]!) : null };
    },
  );

  async function actorsAfter(after: string, limit: number): Promise<string[]> {
    const { rows } = await db.query<{ actor: string }>('select actor from actors where actor > $1 order by actor limit $2', [
      after,
      limit,
    ]);
    return rows.map((row) => row.actor);
  }

  /** @throws Problem with what stands in the way */
  function assertRevives({ actor, machineVersion, snapshot }: NonNullable<Awaited<ReturnType<typeof findActor>>>): void {
    const kind = kernel.kinds.get(parseAddress(actor).kind);
    if (snapshot === null) return;
    try {
      if (kind === undefined) throw new ReviveError(`the kind of ${actor} is unknown here`);
      if (machineVersion > kind.version)
        throw new ReviveError(`it was stored by version ${machineVersion}, and this is ${kind.version}`);
      revive(kind, migrateSnapshot(kind, snapshot, machineVersion));
    } catch (error) {
      if (!(error instanceof ReviveError)) throw error;
      throw new Problem('GPU_ACTOR_NOT_REVIVED', `${actor} still cannot be revived: ${error.message}`);
    }
  }
}

function noActor(actor: string): Problem {
  return new Problem('GPU_ACTOR_UNKNOWN', `There is no actor ${actor}`, { field: 'actor' });
}
