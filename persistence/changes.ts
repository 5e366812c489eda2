/**
 * Steps of reservations in the order in which they became visible. A position is a snapshot of the transactions that were committed when it
 * was taken: what has been committed since is found exactly, though transactions commit in another order than they began.
 */
import type { Queryable } from './database.ts';

/** One step of a reservation's history, as those may see it who may see the reservation. */
export interface Step {
  id: string;
  /** Null if the reservation has been removed meanwhile. */
  owner: string | null;
  seq: number;
  at: Date;
  type: string;
  outcome: 'applied' | 'ignored' | 'refused';
  reason: string | null;
  from: string | null;
  to: string | null;
  /** Where below `to` an applied step led; null if `to` has no states in it, or nobody noted it. */
  leaf: string | null;
}

/** What was committed between two positions; `steps` is null if it was more than asked for. */
export interface Changes {
  after: string;
  steps: Step[] | null;
}

const STEP = `substr(h.actor, 13) as id, r.user_id as owner, h.seq, h.at, h.event->>'type' as type, h.outcome, h.reason,
  h.from_state as "from", h.to_state as "to", h.leaf`;

const READ_POSITION = 'select pg_current_snapshot()::text as position';

/** The present position: all that is committed by now lies behind it. */
export async function presentPosition(db: Queryable): Promise<string> {
  const { rows } = await db.query<{ position: string }>(READ_POSITION, []);
  return rows[0]!.position;
}

// One statement has one snapshot, so what it reports as its position is what it has seen.
const READ_CHANGES = `
  select s.now::text as position, c.*
    from (select pg_current_snapshot() as now) s
    left join lateral (
      select ${STEP}
        from history h left join reservations r on r.reservation_id = substr(h.actor, 13)
       where left(h.actor, 12) = 'reservation/' and h.xact >= pg_snapshot_xmin($1::pg_snapshot)
         and not pg_visible_in_snapshot(h.xact, $1::pg_snapshot)
       order by h.xact, h.actor, h.seq limit $2) c on true`;

/** All steps that were committed after a position, `limit` at most; those of one reservation in their order. */
export async function readChanges(db: Queryable, before: string, limit: number): Promise<Changes> {
  const { rows } = await db.query<Step & { position: string }>(READ_CHANGES, [before, limit + 1]);
  const after = rows[0]!.position;
  if (rows.length > limit) return { after, steps: null };
  return { after, steps: inOrder(rows.filter(({ seq }) => seq !== null).map(({ position: _, ...step }) => step)) };
}

/**
 * The order of transactions is nearly that of the steps, but for a transaction that began early and took its turn late: the places of a
 * reservation are given to its steps by number.
 */
function inOrder(steps: Step[]): Step[] {
  const ofOne = new Map<string, Step[]>();
  for (const step of steps) {
    const others = ofOne.get(step.id);
    if (others === undefined) ofOne.set(step.id, [step]);
    else others.push(step);
  }
  for (const own of ofOne.values()) own.sort((a, b) => b.seq - a.seq);
  return steps.map(({ id }) => ofOne.get(id)!.pop()!);
}

/** Steps of one reservation from one number to another, both included. */
export interface Span {
  id: string;
  first: number;
  last: number;
}

// What one actor did between two positions is a range of its numbers: each turn holds the actor's row.
const READ_SPANS = `
  select substr(h.actor, 13) as id, min(h.seq) as first, max(h.seq) as last
    from history h join reservations r on r.reservation_id = substr(h.actor, 13)
   where left(h.actor, 12) = 'reservation/' and h.xact >= pg_snapshot_xmin($1::pg_snapshot)
     and not pg_visible_in_snapshot(h.xact, $1::pg_snapshot) and pg_visible_in_snapshot(h.xact, $2::pg_snapshot)
     and ($3::text is null or r.user_id = $3 or r.reservation_id = any($4::text[]))
   group by h.actor order by h.actor`;

/** What reservations of this owner (null: of anybody) and those of these ids did between two positions. */
export async function spansBetween(
  db: Queryable,
  before: string,
  after: string,
  owner: string | null,
  further: readonly string[] = [],
): Promise<Span[]> {
  return (await db.query<Span>(READ_SPANS, [before, after, owner, further])).rows;
}

const READ_SPAN = `
  select ${STEP}
    from history h left join reservations r on r.reservation_id = substr(h.actor, 13)
   where h.actor = 'reservation/' || $1::text and h.seq between $2 and $3
   order by h.seq limit $4`;

/** The steps of a span, in order, `limit` at most. */
export async function readSpan(db: Queryable, { id, first, last }: Span, limit: number): Promise<Step[]> {
  return (await db.query<Step>(READ_SPAN, [id, first, last, limit])).rows;
}

const LAST_SEQ = `select coalesce(max(seq), 0) as seq from history where actor = 'reservation/' || $1::text`;

/** Number of the last step of a reservation; 0 if it has none. */
export async function lastSeq(db: Queryable, id: string): Promise<number> {
  return (await db.query<{ seq: number }>(LAST_SEQ, [id])).rows[0]!.seq;
}

const ENDING = `
  select min(seq) as seq from history
   where actor = 'reservation/' || $1::text and outcome = 'applied' and to_state in ('expired', 'failed', 'cancelled')`;

/** Number of the step by which a reservation ended; null if it has not, or its history is not kept. */
export async function endingSeq(db: Queryable, id: string): Promise<number | null> {
  return (await db.query<{ seq: number | null }>(ENDING, [id])).rows[0]!.seq;
}

const LIFE = `
  select left(md5(concat_ws(' ', (select system_identifier from pg_control_system()), d.oid)), 8) as life
    from pg_database d where d.datname = current_database()`;

/** A name of this database on this server: numbers of transactions mean nothing elsewhere. */
export async function lifeOf(db: Queryable): Promise<string> {
  return (await db.query<{ life: string }>(LIFE, [])).rows[0]!.life;
}

const SETTLE_FOREIGN = `
  update history set xact = '3'::xid8 where left(actor, 12) = 'reservation/' and xact >= pg_snapshot_xmax(pg_current_snapshot())`;

/**
 * Steps of a dump from another server bear numbers of its transactions. Those that ours has not reached would count as new once it does; what
 * a statement sees cannot be of a transaction to come, so they are known by that. @returns how many there were.
 */
export async function settleForeignSteps(db: Queryable): Promise<number> {
  return (await db.query(SETTLE_FOREIGN, [])).rowCount ?? 0;
}

/** More transactions under way than this are not listed in a position that is handed out. */
const LISTED = 40;

/** A position short enough for a header: one that lists many transactions is taken back to the oldest of them. */
export function shortened(position: string): string {
  const [xmin, , listed = ''] = position.split(':');
  return listed.split(',').length > LISTED ? `${xmin}:${xmin}:` : position;
}

/** Whether a text is a position that Postgres takes. */
export function isPosition(text: string): boolean {
  const [, xmin, xmax, listed] = /^(\d{1,19}):(\d{1,19}):((?:\d{1,19}(?:,\d{1,19})*)?)$/.exec(text) ?? [];
  if (xmin === undefined || xmax === undefined || listed === undefined) return false;
  const numbers = [xmin, ...(listed === '' ? [] : listed.split(',')), xmax].map(BigInt);
  const isRising = numbers.every((each, index) => index === 0 || each >= numbers[index - 1]!);
  const last = numbers.at(-2)!;
  return numbers[0]! > 0n && isRising && numbers.at(-1)! < 2n ** 63n && (listed === '' || last < numbers.at(-1)!);
}

const IS_BEHIND = 'select pg_snapshot_xmax($1::pg_snapshot) <= pg_snapshot_xmax(pg_current_snapshot()) as behind';

/** Whether this server has been where the position is. */
export async function isBehind(db: Queryable, position: string): Promise<boolean> {
  return (await db.query<{ behind: boolean }>(IS_BEHIND, [position])).rows[0]!.behind;
}
