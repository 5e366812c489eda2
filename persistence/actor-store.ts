/** Actor rows: locked for a turn, and written back with everything the turn decided, in a few set-based statements. */
import type { Queryable, Transaction } from './database.ts';
import { storableJson } from './storable.ts';

/** The stored shape of a machine's snapshot: ours, so that the library's format is no contract. */
export interface StoredSnapshot {
  status: 'active' | 'done' | 'error' | 'stopped';
  value: unknown;
  context: unknown;
  historyValue: unknown;
  output: unknown;
  error: unknown;
}

/** An actor locked for this transaction. */
export interface ActorRow {
  actor: string;
  kind: string;
  machineVersion: number;
  seq: number;
  status: 'unborn' | StoredSnapshot['status'];
  snapshot: StoredSnapshot | null;
}

/** A waiting message. */
export interface MailRow {
  id: number;
  actor: string;
  key: string;
  event: { type: string };
  sender: string;
  sentAt: string | null;
}

// The swift way: the oldest mail, whoever it is for. If none of it is for an actor that can be had, the careful way looks behind it.
export const LOCK_OLDEST = `
  with heads as (
    select distinct on (oldest.actor) oldest.actor, oldest.id as head, oldest.version
      from (select actor, id, version from mailbox where not held and actor <> all($6::text[]) order by id limit $1) oldest
     order by oldest.actor, oldest.id)
  select a.actor, a.kind, a.machine_version as "machineVersion", a.seq, a.status, a.snapshot,
         coalesce($5::timestamptz, now()) as now
    from heads join actors a using (actor)
   where a.quarantined_at is null and greatest(a.machine_version, heads.version) <= ($4::int[])[array_position($3::text[], a.kind)]
   order by heads.head
   limit $2
     for update of a skip locked`;

// Mail that this process cannot take (of quarantined actors, of versions it does not know) is passed over before anything is counted, and
// actors locked elsewhere are skipped before the limit is applied: neither may hide work that could be done. The owner is a subquery so that
// the plan begins with the oldest mail, however much of it there is. What is asked of the owner is asked of the locked row again: newer code
// may have taken the actor between this statement's snapshot and its lock, and a row is checked anew only by conditions on itself.
export const LOCK_READY = `
  with heads as (
    select ready.actor, min(ready.id) as head
      from (select m.actor, m.id
              from mailbox m
             where not m.held
               and (select owner.quarantined_at is null
                           and exists (select 1 from unnest($3::text[], $4::int[]) as known(kind, version)
                                        where known.kind = owner.kind and greatest(owner.machine_version, m.version) <= known.version
                                          and not exists (select 1 from mailbox newer
                                                           where newer.actor = m.actor and newer.id < m.id and newer.version > known.version))
                      from actors owner where owner.actor = m.actor)
               and m.actor <> all($6::text[])
             order by m.id limit $1) ready
     group by ready.actor)
  select a.actor, a.kind, a.machine_version as "machineVersion", a.seq, a.status, a.snapshot,
         coalesce($5::timestamptz, now()) as now
    from heads join actors a using (actor)
   where a.quarantined_at is null and a.machine_version <= ($4::int[])[array_position($3::text[], a.kind)]
   order by heads.head
   limit $2
     for update of a skip locked`;

export const LOCK_ONE = `
  select a.actor, a.kind, a.machine_version as "machineVersion", a.seq, a.status, a.snapshot,
         coalesce($2::timestamptz, now()) as now
    from actors a
   where a.actor = $1 and a.quarantined_at is null
     and exists (select 1 from unnest($3::text[], $4::int[]) as known(kind, version)
                  where known.kind = a.kind and a.machine_version <= known.version)
     for update of a skip locked`;

export const WAIT_BRIEFLY = `set local lock_timeout = '100ms'`;

const brief = new WeakSet<Transaction>();

/** In this transaction, wait for locks no longer than a turn takes: whoever holds one for longer is no turn. */
export function waitBriefly(tx: Transaction): void {
  if (brief.has(tx)) return;
  brief.add(tx);
  tx.send(WAIT_BRIEFLY, []);
}

export interface LockOptions {
  /** Actors at most. */
  actors: number;
  /** Kinds and the newest machine version of each that this process understands; actors of newer versions are left alone. */
  kinds: readonly { kind: string; version: number }[];
  /** Time of the turn if a clock was injected; null for the database's transaction time. */
  now: Date | null;
  /** Take this actor only. */
  only?: string;
  /** Leave these alone. */
  except?: readonly string[];
}

export const LOCK_THESE = `
  select a.actor, a.kind, a.machine_version as "machineVersion", a.seq, a.status, a.snapshot
    from actors a
   where a.actor = any($1::text[]) and a.quarantined_at is null and a.status <> 'unborn'
     and exists (select 1 from unnest($2::text[], $3::int[]) as known(kind, version)
                  where known.kind = a.kind and a.machine_version <= known.version)
   order by a.actor
     for update of a skip locked`;

/** Lock these actors, as far as they are born, understood by this process, and free. */
export async function lockActors(
  tx: Transaction,
  actors: readonly string[],
  known: readonly { kind: string; version: number }[],
): Promise<ActorRow[]> {
  const { rows } = await tx.query<ActorRow>(LOCK_THESE, [
    actors,
    known.map(({ kind }) => kind),
    known.map(({ version }) => version),
  ]);
  return rows;
}

/**
 * Lock actors that have mail, oldest mail first, skipping those that another process works on.
 * The mail is read by {@link readMail} in a second statement: one statement that does both has applied messages twice.
 */
export async function lockActorsWithMail(
  tx: Transaction,
  options: LockOptions,
): Promise<{ actors: ActorRow[]; now: Date | null }> {
  const kinds = options.kinds.map((known) => known.kind);
  const versions = options.kinds.map((known) => known.version);
  const lock = async (text: string, values: unknown[]) => {
    const { rows } = await tx.query<ActorRow & { now: Date }>(text, values);
    return { actors: rows, now: rows[0]?.now ?? null };
  };
  if (options.only !== undefined) return lock(LOCK_ONE, [options.only, options.now, kinds, versions]);
  const heads = Math.max(options.actors * 2, 200);
  const values = [heads, options.actors, kinds, versions, options.now, options.except ?? []];
  const oldest = await lock(LOCK_OLDEST, values);
  return oldest.actors.length > 0 ? oldest : lock(LOCK_READY, values);
}

/** A waiting message of a locked actor, with what the database knows of it. */
export interface WaitingMail extends MailRow {
  /** Its key is in the actor's history: a duplicate. */
  processed: boolean;
  /** Version of the actor's machine that the sender knew. */
  version: number;
  /** Of a deadline's event, the set_seq of the deadline that has fired and not been moved since; null if there is none. */
  firedSeq: number | null;
}

export const READ_MAIL = `
  select m.id, m.actor, m.key, m.event, m.sender, m.sent_at as "sentAt", m.version,
         coalesce(h.processed, false) as processed,
         case when m.sender = 'deadline' then (
           select d.set_seq from deadlines d
            where d.actor = m.actor and 'deadline.' || d.name = m.event->>'type' and d.fired_at is not null) end as "firedSeq"
    from unnest($1::text[], $2::bool[]) as locked(actor, born)
    cross join lateral (
      select * from mailbox b
       where b.actor = locked.actor and (locked.born or not b.held)
       order by b.id limit case when locked.born then $3 else 1 end) m
    left join lateral (select true as processed from history h where h.actor = m.actor and h.key = m.key limit 1) h on true
   order by m.id`;

/**
 * The waiting messages of locked actors, in order, `perActor` at most of each. The unborn read their birth alone: a message that was sent
 * before it, by a transaction that committed after it, is held with a lower id, and its turn comes next.
 */
export async function readMail(
  tx: Transaction,
  actors: readonly Pick<ActorRow, 'actor' | 'status'>[],
  perActor: number,
): Promise<WaitingMail[]> {
  const { rows } = await tx.query<WaitingMail>(READ_MAIL, [
    actors.map(({ actor }) => actor),
    actors.map(({ status }) => status !== 'unborn'),
    perActor,
  ]);
  return rows;
}

export const READ_MORE_MAIL = `
  select m.id, m.actor, m.key, m.event, m.sender, m.sent_at as "sentAt", m.version,
         coalesce(h.processed, false) as processed,
         case when m.sender = 'deadline' then (
           select d.set_seq from deadlines d
            where d.actor = m.actor and 'deadline.' || d.name = m.event->>'type' and d.fired_at is not null) end as "firedSeq"
    from unnest($1::text[]) as locked(actor)
    cross join lateral (
      select * from mailbox b where b.actor = locked.actor and b.id <> all($2::bigint[]) order by b.id limit $3) m
    left join lateral (select true as processed from history h where h.actor = m.actor and h.key = m.key limit 1) h on true
   order by m.id`;

/** What waits for locked actors beside the messages of these ids, in order. The unborn must have been born in this transaction. */
export async function readMoreMail(
  tx: Transaction,
  actors: readonly string[],
  read: readonly number[],
  perActor: number,
): Promise<WaitingMail[]> {
  const { rows } = await tx.query<WaitingMail>(READ_MORE_MAIL, [actors, read, perActor]);
  return rows;
}

/** The next state of one actor. */
export interface ActorUpdate {
  actor: string;
  machineVersion: number;
  seq: number;
  status: StoredSnapshot['status'] | 'unborn';
  state: string | null;
  /** null leaves the stored snapshot as it is. */
  snapshot: StoredSnapshot | null;
}

export const UPDATE_ACTORS = `
  update actors a
     set seq = u.seq, machine_version = u.machine_version, status = u.status, state = u.state,
         snapshot = coalesce(u.snapshot::jsonb, a.snapshot),
         born_at = coalesce(a.born_at, case when u.status <> 'unborn' then $7::timestamptz end),
         updated_at = $7::timestamptz
    from unnest($1::text[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::text[])
      as u(actor, seq, machine_version, status, state, snapshot)
   where a.actor = u.actor`;

/** Write the actors of a batch. */
export function updateActors(tx: Transaction, updates: readonly ActorUpdate[], now: Date): void {
  if (updates.length === 0) return;
  tx.send(UPDATE_ACTORS, [
    updates.map((update) => update.actor),
    updates.map((update) => update.seq),
    updates.map((update) => update.machineVersion),
    updates.map((update) => update.status),
    updates.map((update) => update.state),
    updates.map((update) => (update.snapshot === null ? null : storableJson(update.snapshot))),
    now,
  ]);
}

export const OPEN_ACTORS = `
  insert into actors (actor, kind, machine_version, status)
  select actor, kind, version, 'unborn' from unnest($1::text[], $2::text[], $3::int[]) as o(actor, kind, version)
  on conflict (actor) do nothing
  returning actor`;

/** Make room for actors that are to be born by their first message. @returns those that did not exist. */
export async function openActors(
  db: Queryable,
  actors: readonly { actor: string; kind: string; version: number }[],
): Promise<Set<string>> {
  if (actors.length === 0) return new Set();
  const { rows } = await db.query<{ actor: string }>(OPEN_ACTORS, [
    actors.map((each) => each.actor),
    actors.map((each) => each.kind),
    actors.map((each) => each.version),
  ]);
  return new Set(rows.map((row) => row.actor));
}

export const FIND_ACTOR = `select actor, kind, machine_version as "machineVersion", seq, status, state, snapshot, quarantine_reason as "quarantineReason"
       from actors where actor = $1`;

/** One actor as stored, unlocked; null if there is none. */
export async function findActor(
  db: Queryable,
  actor: string,
): Promise<(ActorRow & { state: string | null; quarantineReason: string | null }) | null> {
  const { rows } = await db.query<ActorRow & { state: string | null; quarantineReason: string | null }>(FIND_ACTOR, [actor]);
  return rows[0] ?? null;
}

export const QUARANTINE = `with struck as (update actors set quarantined_at = now(), quarantine_reason = $2 where actor = $1 and quarantined_at is null returning actor)
     update mailbox set held = true from struck where mailbox.actor = struck.actor`;

/** Leave an actor alone until an operator looks: its snapshot cannot be revived. Its mail waits, and nobody else is delayed. */
export async function quarantineActor(db: Queryable, actor: string, reason: string): Promise<void> {
  await db.query(QUARANTINE, [actor, reason]);
}

/** Actors that were set aside, the last first, with how much mail waits for each. */
export async function listQuarantined(
  db: Queryable,
  limit: number,
): Promise<{ actor: string; reason: string; since: Date; mail: number }[]> {
  const { rows } = await db.query<{ actor: string; reason: string; since: Date; mail: number }>(
    `select a.actor, coalesce(a.quarantine_reason, '') as reason, a.quarantined_at as since,
            (select count(*)::int from mailbox m where m.actor = a.actor) as mail
       from actors a where a.quarantined_at is not null order by a.quarantined_at desc, a.actor limit $1`,
    [limit],
  );
  return rows;
}

/** Let an actor go on. Its mail is set free apart. @returns false if it was not set aside */
export async function releaseActor(tx: Transaction, actor: string): Promise<boolean> {
  const { rowCount } = await tx.query(
    'update actors set quarantined_at = null, quarantine_reason = null where actor = $1 and quarantined_at is not null',
    [actor],
  );
  return rowCount === 1;
}
