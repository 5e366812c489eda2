/**
 * What of the cluster nobody wants. The proof is our own database, read after the cluster was listed: that an actor has ended, or a life of it
 * is over, is true for ever. An id that the database never knew proves nothing.
 */
import type { Queryable } from '../../persistence/database.ts';
import type { Difference } from '../../persistence/reality.ts';
import { type FoundObject, isNameKind, type Subject } from './ports.ts';

/** An actor as far as it matters here. */
interface Owner {
  actor: string;
  status: string;
  state: string;
  generation: number | null;
  attempt: number | null;
}

const OWNERS = `select actor, status, state, (snapshot #>> '{context,generation}')::int as generation, (snapshot #>> '{context,attempt}')::int as attempt
       from actors where actor = any($1::text[]) and snapshot is not null`;

const PUBLISHED = `select 'NameRecord ' || fqdn as what, reservation_id as id from domain_mappings where fqdn is not null and reservation_id = any($1::text[])
     union all select 'way', reservation_id from alb_target_groups where reservation_id = any($1::text[])`;

const RECORDED = 'select snapshot_id from disk_snapshots where snapshot_id = any($1::text[])';

/** How many ids one question to the database names. */
const PORTION = 1_000;

/** Address of the actor an object belongs to, or null. */
export function actorOf(subject: Subject): string | null {
  switch (subject.of) {
    case 'server':
      return `reservation/${subject.server.reservationId}`;
    case 'build':
      return `image/${subject.hash}`;
    case 'disk':
      return `disk/${subject.diskId}`;
    case 'nobody':
      return null;
  }
}

/**
 * Those of these objects that should not be there, with the reason.
 * @throws the database's error
 */
export async function judge(db: Queryable, objects: readonly FoundObject[]): Promise<(Difference & { object: FoundObject })[]> {
  const judged = objects.filter(({ cared, terminating }) => !cared && !terminating);
  const owners = new Map<string, Owner>();
  const addresses = [...new Set(judged.flatMap(({ subject }) => actorOf(subject) ?? []))];
  for (let at = 0; at < addresses.length; at += PORTION) {
    const { rows } = await db.query<Owner>(OWNERS, [addresses.slice(at, at + PORTION)]);
    for (const row of rows) owners.set(row.actor, row);
  }
  const snapshots = judged.flatMap((object) => snapshotOf(object) ?? []);
  const recorded = new Set<string>();
  for (let at = 0; at < snapshots.length; at += PORTION) {
    const { rows } = await db.query<{ snapshot_id: string }>(RECORDED, [snapshots.slice(at, at + PORTION)]);
    for (const row of rows) recorded.add(row.snapshot_id);
  }
  const wanted = await readWanted(db, judged);
  return judged.flatMap((object) => {
    const actor = actorOf(object.subject);
    const found = verdictOf(object, actor === null ? undefined : owners.get(actor), recorded) ?? givenUp(object, wanted);
    return found === null ? [] : [{ kind: object.kind, name: object.name, uid: object.uid, actor, ...found, object }];
  });
}

/** What live reservations have asked of DNS and of the load balancer: on record before it is asked, and until it is gone. */
async function readWanted(db: Queryable, objects: readonly FoundObject[]): Promise<ReadonlySet<string>> {
  const ids = objects.flatMap(({ kind, subject }) =>
    isNameKind(kind) && subject.of === 'server' ? [subject.server.reservationId] : [],
  );
  if (ids.length === 0) return new Set();
  const { rows } = await db.query<{ what: string; id: string }>(PUBLISHED, [ids]);
  return new Set(rows.map(({ what, id }) => `${what} ${id}`));
}

/** A name or a way of a reservation that lives and has no use for it any more. */
function givenUp({ kind, name, subject }: FoundObject, wanted: ReadonlySet<string>): Pick<Difference, 'verdict' | 'why'> | null {
  if (!isNameKind(kind) || subject.of !== 'server') return null;
  const what = kind === 'NameRecord' ? `NameRecord ${name}` : 'way';
  if (wanted.has(`${what} ${subject.server.reservationId}`)) return null;
  return { verdict: 'ended', why: 'Its reservation has withdrawn it' };
}

function verdictOf(
  object: FoundObject,
  owner: Owner | undefined,
  recorded: ReadonlySet<string>,
): Pick<Difference, 'verdict' | 'why'> | null {
  const { subject } = object;
  if (subject.of === 'nobody') return { verdict: 'unknown', why: 'It bears our label and no id' };
  if (owner === undefined) return { verdict: 'unknown', why: 'Our database does not know its id' };
  if (owner.status === 'done') return { verdict: 'ended', why: endOf(subject, owner.state) };
  switch (subject.of) {
    case 'server':
      return ofLife('life', subject.server.generation, owner.generation ?? 0);
    case 'build':
      if (subject.attempt === owner.attempt && owner.state !== 'building')
        return { verdict: 'ended', why: `Its build has ended (the image is ${owner.state})` };
      return ofLife('attempt', subject.attempt, owner.attempt ?? 0);
    case 'disk': {
      const snapshot = snapshotOf(object);
      if (snapshot === null || recorded.has(snapshot)) return null;
      return { verdict: 'unrecorded', why: 'There is no record of this snapshot of a disk' };
    }
  }
}

/** The snapshot that this object is, taken by the cluster or as a copy; null if it is none. */
function snapshotOf({ kind, name, subject }: FoundObject): string | null {
  if (kind === 'VolumeSnapshot') return name;
  return kind === 'PersistentVolumeClaim' && subject.of === 'disk' ? (subject.snapshot ?? null) : null;
}

function endOf(subject: Subject, state: string): string {
  return subject.of === 'disk'
    ? 'Its disk was purged'
    : `Its ${subject.of === 'server' ? 'reservation' : 'build'} has ended (${state})`;
}

/** Lives and attempts are counted: an earlier one never comes back, and a later one than we know of is none of our business. */
function ofLife(what: string, number: number, current: number): Pick<Difference, 'verdict' | 'why'> | null {
  if (number === current) return null;
  return number < current
    ? { verdict: 'ended', why: `Its ${what} ${number} is over: the present one is ${current}` }
    : { verdict: 'unknown', why: `Our database knows of ${what} ${current} at most, and it is of ${number}` };
}
