/**
 * The chain of the audit log. Each link's hash covers its row and the hash before it, so that no row can be changed, removed or put in between
 * without a trace. The last hash, kept elsewhere, is proof of all before it.
 */
import { createHash } from 'node:crypto';
import type { Database, Queryable, Transaction } from './database.ts';

/** A row as it stands in the log. */
export interface AuditRow {
  id: number;
  /** As text, exact to the microsecond. */
  at: string;
  actor: string;
  door: string;
  action: string;
  object: string;
  details: Record<string, unknown>;
  address: string | null;
  request_id: string | null;
  key_prefix: string | null;
}

/** Where the chain begins. */
export const GENESIS = '0'.repeat(64);

/** The hash of a row behind the one before it. */
export function linkOf(previous: string, row: AuditRow, details: string): string {
  const fields = [
    row.id,
    row.at,
    row.actor,
    row.door,
    row.action,
    row.object,
    details,
    row.address,
    row.request_id,
    row.key_prefix,
  ];
  return createHash('sha256')
    .update(`${previous}\n${JSON.stringify(fields)}`)
    .digest('hex');
}

type SealableRow = AuditRow & { details_text: string };

// Each is looked up by its id: joined, the whole log may be read for those few.
const NEXT_PENDING = `
  select l.*
    from (select id from audit_pending order by id limit $1) p
   cross join lateral (
     select l.id, to_char(l.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, l.actor, l.door, l.action, l.object, l.details,
            l.details::text as details_text, l.address, l.request_id, l.key_prefix
       from audit_log l where l.id = p.id offset 0) l
   order by p.id`;

const LAST_SEAL = 'select seq, hash from audit_seals order by seq desc limit 1';

const ADD_SEALS = `
  with sealed as (delete from audit_pending where id = any($2::bigint[]))
  insert into audit_seals (seq, audit_id, hash) select * from unnest($1::bigint[], $2::bigint[], $3::text[])`;

/**
 * Put the next rows into the chain; the caller makes sure that nobody else does.
 * @returns how many; `limit` at most
 */
export async function sealNext(tx: Transaction, limit: number): Promise<number> {
  const { rows } = await tx.query<SealableRow>(NEXT_PENDING, [limit]);
  if (rows.length === 0) return 0;
  const { rows: last } = await tx.query<{ seq: number; hash: string }>(LAST_SEAL);
  let { seq, hash } = last[0] ?? { seq: 0, hash: GENESIS };
  const links = rows.map((row) => {
    seq += 1;
    hash = linkOf(hash, row, row.details_text);
    return { seq, id: row.id, hash };
  });
  await tx.query(ADD_SEALS, [links.map((link) => link.seq), links.map((link) => link.id), links.map((link) => link.hash)]);
  return rows.length;
}

/** What a walk along the chain found. */
export interface ChainReport {
  ok: boolean;
  /** Rows in the chain. */
  sealed: number;
  /** Rows that wait for their link. */
  unsealed: number;
  /** Age of the oldest of those, in seconds; null if there is none. */
  unsealedSeconds: number | null;
  /** The last hash; GENESIS if there is none. */
  head: string;
  /** Where it is broken, and how; null if it is not. */
  broken: { seq: number; auditId: number | null; why: string } | null;
}

const CHAIN = `
  select s.seq, s.audit_id, s.hash, l.id, to_char(l.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, l.actor, l.door, l.action, l.object, l.details, l.details::text as details_text,
         l.address, l.request_id, l.key_prefix
    from audit_seals s left join audit_log l on l.id = s.audit_id where s.seq > $1 order by s.seq limit $2`;

const TAIL = `
  select (select count(*) from audit_pending)::int as pending,
         (select extract(epoch from now() - min(l.at))::float8 from audit_pending p join audit_log l using (id)) as seconds,
         (select count(*) from audit_log l where not exists (select from audit_seals s where s.audit_id = l.id)
                                          and not exists (select from audit_pending p where p.id = l.id))::int as outside,
         (select min(l.id) from audit_log l where not exists (select from audit_seals s where s.audit_id = l.id)
                                          and not exists (select from audit_pending p where p.id = l.id)) as first_outside`;

type ChainRow = SealableRow & { seq: number; audit_id: number; hash: string; id: number | null };

const PAGE = 2_000;

/** Walk the whole chain, in one view of the database. */
export async function verifyChain(db: Pick<Database, 'withTransaction'>): Promise<ChainReport> {
  return db.withTransaction(
    async (tx) => {
      const walked = await walk(tx);
      const { rows } = await tx.query<{ pending: number; seconds: number | null; outside: number; first_outside: number | null }>(
        TAIL,
      );
      const { pending, seconds, outside, first_outside: first } = rows[0]!;
      const lost =
        outside === 0
          ? null
          : { seq: walked.sealed, auditId: first, why: `${outside} rows are neither sealed nor waiting for it` };
      const broken = walked.broken ?? lost;
      return { ...walked, broken, ok: broken === null, unsealed: pending, unsealedSeconds: seconds };
    },
    { readonly: true },
  );
}

async function walk(db: Queryable): Promise<Pick<ChainReport, 'sealed' | 'head' | 'broken'>> {
  let head = GENESIS;
  let seq = 0;
  for (;;) {
    const { rows } = await db.query<ChainRow>(CHAIN, [seq, PAGE]);
    for (const row of rows) {
      const why = faultOf(row, seq, head);
      if (why !== null) return { sealed: seq, head, broken: { seq: row.seq, auditId: row.audit_id, why } };
      seq = row.seq;
      head = row.hash;
    }
    if (rows.length < PAGE) return { sealed: seq, head, broken: null };
  }
}

function faultOf(row: ChainRow, lastSeq: number, head: string): string | null {
  if (row.seq !== lastSeq + 1) return `the links from ${lastSeq + 1} to ${row.seq - 1} are missing`;
  if (row.id === null) return 'its row is missing';
  return linkOf(head, row, row.details_text) === row.hash
    ? null
    : 'the row is not as it was when it was sealed, or a link before it was changed';
}

/** What to show of the log; null is no filter. */
export interface AuditFilter {
  actor: string | null;
  object: string | null;
  action: string | null;
  /** Rows below this id. */
  before: number | null;
  limit: number;
}

const LIST = `
  select l.id, to_char(l.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, l.actor, l.door, l.action, l.object, l.details, l.address, l.request_id, l.key_prefix, s.seq
    from audit_log l left join audit_seals s on s.audit_id = l.id
   where ($1::text is null or l.actor = $1) and ($2::text is null or l.object = $2) and ($3::text is null or l.action = $3)
     and ($4::bigint is null or l.id < $4)
   order by l.id desc limit $5`;

/** Rows of the log, newest first, with their place in the chain (null until they are sealed). */
export async function listAudit(db: Queryable, filter: AuditFilter): Promise<(AuditRow & { seq: number | null })[]> {
  const values = [filter.actor, filter.object, filter.action, filter.before, filter.limit];
  return (await db.query<AuditRow & { seq: number | null }>(LIST, values)).rows;
}

/** The place of a hash in the chain; null if it is not there. */
export async function findSeal(db: Queryable, hash: string): Promise<number | null> {
  if (hash === GENESIS) return 0;
  const { rows } = await db.query<{ seq: number }>('select seq from audit_seals where hash = $1', [hash]);
  return rows[0]?.seq ?? null;
}

/** Whether rows wait for their link. */
export async function anyPending(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ waits: boolean }>('select exists (select from audit_pending) as waits');
  return rows[0]!.waits;
}
