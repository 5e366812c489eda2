/** The disk behind a name, made if there is none. A disk's row exists before anything else of it does. */
import { v7 as uuidv7 } from 'uuid';
import type { Transaction } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
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
}

export const FIND_DISK =
  'select disk_id, is_deleted from disks where user_id = $1 and disk_name = $2 and purged_at is null for share';

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
): Promise<{ id: string; messages: Message[] }> {
  const id = newId();
  if (await insertDisk(tx, { id, owner, name, sizeGb }))
    return { id, messages: [birthOf({ id, owner, name, sizeGb, cloneOf: null, operationId: null })] };
  const found = await findDisk(tx, owner, name);
  if (found === null)
    throw new Problem('GPU_DISK_UNKNOWN', `The disk ${name} has just been purged; try again`, { field: 'disk_name' });
  if (found.is_deleted) {
    throw new Problem('GPU_DISK_DELETED', `The disk ${name} is deleted; undelete it first, or take another name`, {
      field: 'disk_name',
    });
  }
  return { id: found.disk_id, messages: [] };
}

/** A disk that a request names, with the id it gets if there is none of that name. */
export interface DiskWish {
  id: string;
  owner: string;
  name: string;
  sizeGb: number;
}

export const RESOLVE_DISKS = `
  with asked as (
    select distinct on (owner, name) * from unnest($1::uuid[], $2::text[], $3::text[], $4::int[]) as a(id, owner, name, size_gb)
     order by owner, name),
  made as (
    insert into disks (disk_id, user_id, disk_name, size_gb, created_at) select id, owner, name, size_gb, now() from asked
    on conflict (user_id, disk_name) where purged_at is null do nothing
    returning disk_id as id, user_id as owner, disk_name as name, size_gb as "sizeGb"),
  there as (
    select d.disk_id as id, d.user_id as owner, d.disk_name as name, d.size_gb as "sizeGb"
      from disks d join asked a on d.user_id = a.owner and d.disk_name = a.name
     where d.purged_at is null and not d.is_deleted for share of d)
  select *, true as made from made union all select *, false from there`;

/** As {@link resolveDisk}, for many at once. One that is deleted, or is being made by somebody else, is not in the answer. */
export async function resolveDisks(
  tx: Transaction,
  wishes: readonly DiskWish[],
): Promise<{ idOf: (owner: string, name: string) => string | undefined; messages: Message[] }> {
  if (wishes.length === 0) return { idOf: () => undefined, messages: [] };
  const { rows } = await tx.query<DiskWish & { made: boolean }>(RESOLVE_DISKS, [
    wishes.map(({ id }) => id),
    wishes.map(({ owner }) => owner),
    wishes.map(({ name }) => name),
    wishes.map(({ sizeGb }) => sizeGb),
  ]);
  const ids = new Map(rows.map(({ id, owner, name }) => [`${owner}\n${name}`, id]));
  return {
    idOf: (owner, name) => ids.get(`${owner}\n${name}`),
    messages: rows
      .filter(({ made }) => made)
      .map(({ id, owner, name, sizeGb }) => birthOf({ id, owner, name, sizeGb, cloneOf: null, operationId: null })),
  };
}

export function birthOf(disk: {
  id: string;
  owner: string;
  name: string;
  sizeGb: number;
  cloneOf: string | null;
  operationId: string | null;
}): Message {
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
