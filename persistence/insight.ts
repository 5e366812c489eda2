/** A look inside actors, for operators and pages: their effects, their deadlines, and the numbers of the whole. */
import type { Queryable } from './database.ts';

export interface EffectRow {
  id: string;
  seq: number;
  type: string;
  lane: string;
  status: string;
  attempts: number;
  created_at: Date;
  next_at: Date;
  ended_at: Date | null;
  last_error: string | null;
  /** True while a dispatcher holds its lease. */
  running: boolean;
}

/** The effects of an actor, oldest first. */
export async function listEffects(db: Queryable, actor: string, limit = 1_000): Promise<EffectRow[]> {
  const { rows } = await db.query<EffectRow>(
    `select effect_id as id, seq, type, lane, status, attempts, created_at, next_at, ended_at, last_error,
            status = 'pending' and coalesce(lease_until > now(), false) as running
       from effects where actor = $1 order by seq, index limit $2`,
    [actor, limit],
  );
  return rows;
}

export interface DeadlineRow {
  name: string;
  due_at: Date;
  fired_at: Date | null;
}

/** The deadlines of an actor, next first. */
export async function listDeadlines(db: Queryable, actor: string): Promise<DeadlineRow[]> {
  const { rows } = await db.query<DeadlineRow>(
    'select name, due_at, fired_at from deadlines where actor = $1 order by due_at, name',
    [actor],
  );
  return rows;
}

/** Why a message of this key was set aside; null if it was not. */
export async function findDeadLetter(
  db: Queryable,
  actor: string,
  key: string,
): Promise<{ code: string; field: string | null; reason: string } | null> {
  const { rows } = await db.query<{ code: string; field: string | null; reason: string }>(
    `select code, field, reason from dead_letters where source = 'mailbox' and actor = $1 and key = $2 order by id desc limit 1`,
    [actor, key],
  );
  return rows[0] ?? null;
}

/** Numbers of the whole database, for /metrics. Seconds are counted from the database's clock. */
export interface Totals {
  mailbox: number;
  mailboxHeld: number;
  oldestMailSeconds: number;
  effectsPending: number;
  deadLettersOpen: number;
  quarantined: number;
  /** Effects that wait after a failed try. */
  effectsStruggling: number;
  /** Disks that tell of a problem. */
  disksTroubled: number;
  /** GPU types under maintenance now, and nodes that are being drained. */
  maintenance: number;
  nodesDrained: number;
  /** How long the oldest due deadline has been waiting; 0 if none is due. */
  oldestDueDeadlineSeconds: number;
}

export async function readTotals(db: Queryable): Promise<Totals> {
  const { rows } = await db.query<Totals & { [key: string]: unknown }>(
    `select (select count(*)::int from mailbox where not held) as "mailbox",
            (select count(*)::int from mailbox where held) as "mailboxHeld",
            coalesce((select extract(epoch from now() - enqueued_at)::float8 from mailbox where not held order by id limit 1), 0) as "oldestMailSeconds",
            (select count(*)::int from effects where status = 'pending') as "effectsPending",
            (select count(*)::int from dead_letters where resolved is null) as "deadLettersOpen",
            (select count(*)::int from actors where quarantined_at is not null) as "quarantined",
            (select count(*)::int from effects where status = 'pending' and last_error is not null) as "effectsStruggling",
            (select count(*)::int from disks where purged_at is null and problem is not null) as "disksTroubled",
            (select count(*)::int from maintenance where from_at <= now()) as "maintenance",
            (select count(*)::int from node_drains) as "nodesDrained",
            greatest(0, coalesce((select extract(epoch from now() - min(due_at))::float8 from deadlines where fired_at is null), 0))
              as "oldestDueDeadlineSeconds"`,
  );
  return rows[0]!;
}

/** How many actors of each kind are in each top-level state. */
export async function countActors(db: Queryable): Promise<{ kind: string; state: string; count: number }[]> {
  const { rows } = await db.query<{ kind: string; state: string; count: number }>(
    `select kind, coalesce(state, 'unborn') as state, count(*)::int as count from actors group by kind, state`,
  );
  return rows;
}
