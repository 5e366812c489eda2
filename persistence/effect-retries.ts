/** Effects that operators start anew: those that wait for their next try, and those that were given up. */
import type { Queryable, Transaction } from './database.ts';

export interface EffectSummary {
  effect_id: string;
  actor: string;
  type: string;
  lane: string;
  status: 'pending' | 'done' | 'failed' | 'superseded';
  attempts: number;
  takeovers: number;
  next_at: Date;
  created_at: Date;
  ended_at: Date | null;
  last_error: string | null;
  running: boolean;
}

const COLUMNS = `effect_id, actor, type, lane, status, attempts, coalesce(takeovers, 0) as takeovers, next_at, created_at, ended_at, last_error,
  status = 'pending' and coalesce(lease_until > now(), false) as running`;

/** Effects that failed for good, or wait after a failed try: of one actor or of all, newest first. */
export async function listTroubledEffects(
  db: Queryable,
  filter: { status: 'pending' | 'failed'; actor: string | null; limit: number },
): Promise<EffectSummary[]> {
  const { rows } = await db.query<EffectSummary>(
    `select ${COLUMNS} from effects
      where status = $1 and ($2::text is null or actor = $2) and (status = 'failed' or last_error is not null or takeovers > 0)
      order by created_at desc, effect_id limit $3`,
    [filter.status, filter.actor, filter.limit],
  );
  return rows;
}

export interface RetriableEffect extends EffectSummary {
  /** State of its actor now, and the one into which the step led that asked for it; null if history no longer says. */
  actor_state: string | null;
  actor_status: string | null;
  state_then: string | null;
  /** Whether something later was asked for in its lane, or this was begun anew already. */
  overtaken: boolean;
}

/** One effect, locked, with what decides whether it may be begun anew; null if there is none. */
export async function lockEffect(tx: Transaction, effectId: string): Promise<RetriableEffect | null> {
  const { rowCount } = await tx.query('select 1 from effects where effect_id = $1 for update', [effectId]);
  if (rowCount === 0) return null;
  const { rows } = await tx.query<RetriableEffect>(
    `select ${COLUMNS},
            (select a.state from actors a where a.actor = e.actor) as actor_state,
            (select a.status from actors a where a.actor = e.actor) as actor_status,
            (select h.to_state from history h where h.actor = e.actor and h.seq = e.seq) as state_then,
            exists (select from effects later
                     where later.actor = e.actor and later.lane = e.lane and later.effect_id <> e.effect_id
                       and ((later.seq, later.index) > (e.seq, e.index)
                            or ((later.seq, later.index) = (e.seq, e.index) and later.status <> 'failed'))) as overtaken
       from effects e where effect_id = $1`,
    [effectId],
  );
  return rows[0]!;
}

/** Let a pending effect start now, and forget that it was suspected of anything. */
export async function hurryEffect(tx: Transaction, effectId: string): Promise<void> {
  await tx.query(
    `update effects set next_at = now(), takeovers = null, lease_token = null, lease_until = null where effect_id = $1 and status = 'pending'`,
    [effectId],
  );
}

/**
 * Ask once more for what a failed effect was to do, at its place in its lane. It has an id of its own: the failure is told under the old one,
 * and the old one's key is spent.
 * @returns the new id
 */
export async function copyEffect(tx: Transaction, effectId: string): Promise<string> {
  const { rows } = await tx.query<{ effect_id: string }>(
    `insert into effects (effect_id, actor, seq, index, type, lane, replaces, params, next_at, created_at)
     select split_part(e.effect_id, '~', 1) || '~'
              || (select count(*) from effects other where other.actor = e.actor and other.seq = e.seq and other.index = e.index),
            e.actor, e.seq, e.index, e.type, e.lane, e.replaces, e.params, now(), now()
       from effects e where e.effect_id = $1
     returning effect_id`,
    [effectId],
  );
  return rows[0]!.effect_id;
}
