/** Findings: where cluster and database differ. And runs: comparisons that were asked for, and what they found. */
import type { Queryable } from './database.ts';

/** Why something is a finding. */
export type Verdict =
  /** Our database knows that whatever it belongs to has ended. */
  | 'ended'
  /** Our database never knew its id, or knows less than the cluster: it may be a restored backup. */
  | 'unknown'
  /** A copy of data of a disk that we know, of which there is no record. */
  | 'unrecorded'
  /** An actor believes in it, and the API server answers 404. */
  | 'missing';

export interface Difference {
  kind: string;
  name: string;
  /** Empty for what is missing. */
  uid: string;
  actor: string | null;
  verdict: Verdict;
  why: string;
}

/** What was done about a finding at last. */
export type Deed = 'reported' | 'removed' | 'told';

export interface FindingRow extends Difference {
  id: number;
  first_seen: Date;
  last_seen: Date;
  done: Deed;
  done_at: Date | null;
}

const RECORD_FINDINGS = `
  insert into reality_findings as f (kind, name, uid, actor, verdict, why, first_seen, last_seen)
  select n.kind, n.name, n.uid, n.actor, n.verdict, n.why, coalesce($2::timestamptz, now()), coalesce($2::timestamptz, now())
    from jsonb_to_recordset($1::jsonb) as n(kind text, name text, uid text, actor text, verdict text, why text)
  on conflict (kind, name, uid) where closed_at is null do update set
         first_seen = case when f.verdict = excluded.verdict then f.first_seen else excluded.first_seen end,
         last_seen = excluded.last_seen, actor = excluded.actor, verdict = excluded.verdict, why = excluded.why
  returning f.id, f.kind, f.name, f.uid, f.actor, f.verdict, f.why, f.first_seen, f.last_seen, f.done, f.done_at`;

/** Write what was found; one that is open already keeps the time at which it was first seen, as long as its verdict is the same. */
export async function recordFindings(db: Queryable, found: readonly Difference[], now: Date | null): Promise<FindingRow[]> {
  if (found.length === 0) return [];
  return (await db.query<FindingRow>(RECORD_FINDINGS, [JSON.stringify(found), now])).rows;
}

const CLOSE_FINDINGS = `
  update reality_findings set closed_at = coalesce($3::timestamptz, now())
   where closed_at is null and kind = any($1::text[]) and not (id = any($2::bigint[]))`;

/** Close the open findings of these kinds but for those with these ids. @returns how many. */
export async function closeFindings(
  db: Queryable,
  kinds: readonly string[],
  stillOpen: readonly number[],
  now: Date | null,
): Promise<number> {
  return (await db.query(CLOSE_FINDINGS, [kinds, stillOpen, now])).rowCount ?? 0;
}

/** Note what was done about a finding. */
export async function noteDeed(db: Queryable, id: number, deed: Deed, now: Date | null): Promise<void> {
  await db.query('update reality_findings set done = $2, done_at = coalesce($3::timestamptz, now()) where id = $1', [
    id,
    deed,
    now,
  ]);
}

/** Open findings, oldest first. */
export async function openFindings(db: Queryable, limit: number): Promise<FindingRow[]> {
  const { rows } = await db.query<FindingRow>(
    `select id, kind, name, uid, actor, verdict, why, first_seen, last_seen, done, done_at
       from reality_findings where closed_at is null order by first_seen, id limit $1`,
    [limit],
  );
  return rows;
}

export interface FindingFilter {
  kind: string | null;
  verdict: string | null;
  limit: number;
  /** Where the page before ended, to the microsecond. */
  after: { firstSeen: string; id: number } | null;
}

const FINDINGS_PAGE = `
  select id, kind, name, uid, actor, verdict, why, first_seen, last_seen, done, done_at, first_seen::text as place
    from reality_findings
   where closed_at is null and ($1::text is null or kind = $1) and ($2::text is null or verdict = $2)
     and ($3::timestamptz is null or (first_seen, id) > ($3, $4::bigint))
   order by first_seen, id limit $5`;

/** A page of open findings, oldest first; `place` and `id` say where it ends. */
export async function listFindings(db: Queryable, filter: FindingFilter): Promise<(FindingRow & { place: string })[]> {
  const { kind, verdict, limit, after } = filter;
  const { rows } = await db.query<FindingRow & { place: string }>(FINDINGS_PAGE, [
    kind,
    verdict,
    after?.firstSeen ?? null,
    after?.id ?? null,
    limit,
  ]);
  return rows;
}

/** How many findings of each kind and verdict are open. */
export async function countFindings(db: Queryable): Promise<{ kind: string; verdict: Verdict; count: number }[]> {
  const { rows } = await db.query<{ kind: string; verdict: Verdict; count: number }>(
    'select kind, verdict, count(*)::int as count from reality_findings where closed_at is null group by kind, verdict',
  );
  return rows;
}

/** What became of one finding in one run. */
export interface ReportLine {
  kind: string;
  name: string;
  actor: string | null;
  verdict: Verdict;
  why: string;
  first_seen: string;
  /**
   * What was done: reported, removed, told (its actor); waits (its grace is not over); changed (it was another by then, and was left alone);
   * failed; held (most servers vanished at once: an operator's word is waited for). In a dry run: would remove, would tell.
   */
  action: 'reported' | 'removed' | 'told' | 'waits' | 'changed' | 'failed' | 'held' | 'would remove' | 'would tell';
}

export interface Report {
  findings: ReportLine[];
  /** How many more there are than stand here. */
  left_out: number;
  /** Kinds and questions that found no answer: nothing is said of them. */
  unanswered: string[];
}

export interface RunRow {
  id: string;
  dry_run: boolean;
  asked_by: string;
  requested_at: Date;
  started_at: Date | null;
  ended_at: Date | null;
  error: string | null;
  report: Report | null;
}

const RUN_COLUMNS = 'id, dry_run, asked_by, requested_at, started_at, ended_at, error, report';

/** Ask for a comparison. A channel of the same name as the lease wakes whoever makes it. */
export async function requestRun(db: Queryable, run: { id: string; dryRun: boolean; by: string }): Promise<void> {
  await db.query(
    `with asked as (insert into reality_runs (id, dry_run, asked_by) values ($1, $2, $3) on conflict (id) do nothing returning 1)
     select pg_notify('reality', '') from asked`,
    [run.id, run.dryRun, run.by],
  );
}

const TAKE_RUN = `
  update reality_runs set started_at = now()
   where id = (select id from reality_runs where ended_at is null order by requested_at limit 1)
  returning ${RUN_COLUMNS}`;

/** The run that has waited longest, or one that whoever began it did not end; null if there is none. */
export async function takeRun(db: Queryable): Promise<RunRow | null> {
  return (await db.query<RunRow>(TAKE_RUN, [])).rows[0] ?? null;
}

/** Write how a run ended. */
export async function endRun(db: Queryable, id: string, outcome: { report: Report | null; error: string | null }): Promise<void> {
  await db.query('update reality_runs set ended_at = now(), report = $2, error = $3 where id = $1 and ended_at is null', [
    id,
    outcome.report === null ? null : JSON.stringify(outcome.report),
    outcome.error,
  ]);
}

const FIND_RUN = `select ${RUN_COLUMNS} from reality_runs where id = $1`;

export async function findRun(db: Queryable, id: string): Promise<RunRow | null> {
  return (await db.query<RunRow>(FIND_RUN, [id])).rows[0] ?? null;
}

const LAST_RUN = `select ${RUN_COLUMNS} from reality_runs where ended_at is not null and not dry_run order by ended_at desc limit 1`;

/** The last comparison that ended, dry ones left out. */
export async function lastRun(db: Queryable): Promise<RunRow | null> {
  return (await db.query<RunRow>(LAST_RUN)).rows[0] ?? null;
}
