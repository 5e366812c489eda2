/** The disk behind a name, made if there is none. A disk's row exists before anything else of it does. */
import { v7 as uuidv7 } from 'uuid';
import type { VolumePlace } from '../../machines/disk.events.ts';
import type { DiskInput } from '../../machines/disk.machine.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { NODE_LABELS } from '../gpu-pool/capacity.ts';
import { isFixed, isIn, keysOf, nameOfPlace } from '../gpu-pool/places.ts';
import { Problem } from '../problem.ts';

/** How long a deleted disk can be brought back, in days. */
const UNDELETE_DAYS = 30;
const DAY = 86_400_000;
const DATE_ONLY = /^\d{4}-\d\d-\d\d$/;
/** How far a sender's "now" may lie behind ours, in milliseconds. */
const CLOCKS_DIFFER = 5 * 60_000;

export interface DiskRow {
  disk_id: string;
  is_deleted: boolean;
  volume_place: VolumePlace | null;
  size_gb: number;
}

export const FIND_DISK =
  'select disk_id, is_deleted, volume_place, size_gb from disks where user_id = $1 and disk_name = $2 and purged_at is null for share';

export async function findDisk(tx: Transaction, owner: string, name: string): Promise<DiskRow | null> {
  const { rows } = await tx.query<DiskRow>(FIND_DISK, [owner, name]);
  return rows[0] ?? null;
}

export const INSERT_DISK = `insert into disks (disk_id, user_id, disk_name, size_gb, created_at) values ($1, $2, $3, $4, now())
     on conflict (user_id, disk_name) where purged_at is null do nothing`;

/** Make the row of a new disk. @returns false if the owner has a disk of that name, deleted or not. */
export async function insertDisk(
  tx: Transaction,
  disk: { id: string; owner: string; name: string; sizeGb: number },
): Promise<boolean> {
  const { rowCount } = await tx.query(INSERT_DISK, [disk.id, disk.owner, disk.name, disk.sizeGb]);
  return rowCount === 1;
}

/**
 * The disk of that name, made if the owner has none.
 * @throws Problem if it is deleted: bringing it back is an explicit wish.
 */
export async function resolveDisk(
  tx: Transaction,
  owner: string,
  name: string,
  sizeGb: number,
  newId: () => string = uuidv7,
): Promise<{ id: string; place: VolumePlace | null; sizeGb: number; messages: Message[] }> {
  const id = newId();
  if (await insertDisk(tx, { id, owner, name, sizeGb }))
    return { id, place: null, sizeGb, messages: [birthOf({ id, owner, name, sizeGb, cloneOf: null, operationId: null })] };
  const found = await findDisk(tx, owner, name);
  if (found === null)
    throw new Problem('GPU_DISK_UNKNOWN', `The disk ${name} has just been purged; try again`, { field: 'disk_name' });
  if (found.is_deleted) {
    throw new Problem('GPU_DISK_DELETED', `The disk ${name} is deleted; undelete it first, or take another name`, {
      field: 'disk_name',
    });
  }
  return { id: found.disk_id, place: found.volume_place, sizeGb: found.size_gb, messages: [] };
}

/**
 * What becomes of a size that a create names, of a disk that has `sizeGb`: one that is larger makes the disk grow before its next use. A disk
 * never shrinks: a smaller size is no error, for there are senders that always name one, and whoever reads the answer is told.
 * @param asked null: the create names none
 */
export function sizeWish(
  disk: { id: string; name: string; sizeGb: number },
  asked: number | null,
  reservationId: string,
): { messages: Message[]; notice: string | null } {
  if (asked === null || asked === disk.sizeGb) return { messages: [], notice: null };
  if (asked < disk.sizeGb) {
    const notice = `The disk ${disk.name} has ${disk.sizeGb} GB and stays as it is, though disk_size_gb is ${asked}: a disk never shrinks`;
    return { messages: [], notice };
  }
  const event = { type: 'disk.grow', sizeGb: asked } as { type: string };
  return { messages: [{ actor: `disk/${disk.id}`, key: `grow:${reservationId}`, event, sender: 'door' }], notice: null };
}

/** A disk that a request names, with the id it gets if there is none of that name. */
export interface DiskWish {
  id: string;
  owner: string;
  name: string;
  sizeGb: number;
}

type PlacedDisk = DiskWish & { place: VolumePlace | null };

export const RESOLVE_DISKS = `
  with asked as (
    select distinct on (owner, name) * from unnest($1::uuid[], $2::text[], $3::text[], $4::int[]) as a(id, owner, name, size_gb)
     order by owner, name),
  made as (
    insert into disks (disk_id, user_id, disk_name, size_gb, created_at) select id, owner, name, size_gb, now() from asked
    on conflict (user_id, disk_name) where purged_at is null do nothing
    returning disk_id as id, user_id as owner, disk_name as name, size_gb as "sizeGb", null::jsonb as place),
  there as (
    select d.disk_id as id, d.user_id as owner, d.disk_name as name, d.size_gb as "sizeGb", d.volume_place as place
      from disks d join asked a on d.user_id = a.owner and d.disk_name = a.name
     where d.purged_at is null and not d.is_deleted for share of d)
  select *, true as made from made union all select *, false from there`;

/** As {@link resolveDisk}, for many at once. One that is deleted, or is being made by somebody else, is not in the answer. */
export async function resolveDisks(
  tx: Transaction,
  wishes: readonly DiskWish[],
): Promise<{
  find: (owner: string, name: string) => Pick<PlacedDisk, 'id' | 'place' | 'sizeGb'> | undefined;
  messages: Message[];
}> {
  if (wishes.length === 0) return { find: () => undefined, messages: [] };
  const { rows } = await tx.query<PlacedDisk & { made: boolean }>(RESOLVE_DISKS, [
    wishes.map(({ id }) => id),
    wishes.map(({ owner }) => owner),
    wishes.map(({ name }) => name),
    wishes.map(({ sizeGb }) => sizeGb),
  ]);
  const found = new Map(rows.map((row) => [`${row.owner}\n${row.name}`, row]));
  return {
    find: (owner, name) => found.get(`${owner}\n${name}`),
    messages: rows
      .filter(({ made }) => made)
      .map(({ id, owner, name, sizeGb }) => birthOf({ id, owner, name, sizeGb, cloneOf: null, operationId: null })),
  };
}

/**
 * Refuse a disk whose volume no node of the type can use. A type without any node is waited for, as it is without a disk.
 * @throws Problem
 */
export async function refuseElsewhere(
  tx: Transaction,
  gpuType: string,
  disks: readonly { name: string; place: VolumePlace | null }[],
): Promise<void> {
  const fixed = disks.filter(({ place }) => isFixed(place));
  if (fixed.length === 0) return;
  type Row = { node: string; labels: Record<string, string> | null };
  const { rows } = await tx.query<Row>(NODE_LABELS, [gpuType, keysOf(fixed.map(({ place }) => place))]);
  const nodes = rows.map(({ node, labels }) => ({ node, labels: labels ?? {} }));
  const lost = fixed.find(({ place }) => nodes.length > 0 && !nodes.some((node) => isIn(node, place)));
  if (lost === undefined) return;
  const where = nameOfPlace(lost.place!);
  throw new Problem(
    'GPU_DISK_ELSEWHERE',
    `The disk ${lost.name} is on ${where}, and no node of type ${gpuType} is there. Take a type that has nodes there, another disk, or none`,
    { field: 'disk_name', details: { place: where } },
  );
}

export function birthOf(disk: Omit<DiskInput, 'adopted'>): Message {
  return {
    actor: `disk/${disk.id}`,
    key: 'created',
    event: { type: 'disk.created', ...disk } as { type: string },
    sender: 'door',
  };
}

export const READ_NOW = 'select now()';

/**
 * When a disk that is deleted now is purged: at the date asked for, else when it can no longer be brought back. By the database's clock.
 * A date without a time is that day in UTC; today means now. A date that is past (a message that lay in the queue, a typing error) must not
 * destroy data at once: the owner gets the whole time to bring the disk back, as if none had been named.
 */
export async function deletionTime(tx: Transaction, date: string | null): Promise<string> {
  const { rows } = await tx.query<{ now: Date }>(READ_NOW);
  const now = rows[0]!.now.getTime();
  const wished = date === null ? Number.NaN : Date.parse(date);
  const past = DATE_ONLY.test(date ?? '') ? wished + DAY <= now : wished < now - CLOCKS_DIFFER;
  if (Number.isNaN(wished) || past) return new Date(now + UNDELETE_DAYS * DAY).toISOString();
  return new Date(Math.max(wished, now)).toISOString();
}
