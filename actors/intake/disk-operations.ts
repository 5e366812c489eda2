/** Operations on disks at the door: each has a row of its own, which tells its sender what became of it. */
import { isDeepStrictEqual } from 'node:util';
import { v7 as uuidv7 } from 'uuid';
import type { Transaction } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { SNAPSHOT_IS_THERE } from '../disk/retention.ts';
import { Problem } from '../problem.ts';
import { birthOf, deletionTime, type DiskRow, findDisk, insertDisk } from './disks.ts';
import type { Accepted, Post, Sender } from './doors.ts';
import { check, type DiskAction, DiskMessages } from './messages.ts';

const DEFAULT_SIZE_GB = 200;

export const OPEN_OPERATION = `insert into operations (operation_id, user_id, action, disk_name, request) values ($1, $2, $3, $4, $5::jsonb)
     on conflict (operation_id) do nothing`;

export const EARLIER_OPERATION = 'select user_id, action, request from operations where operation_id = $1';

export const FAIL_OPERATION = `update operations set status = 'failed', error = $2, code = $3, updated_at = now() where operation_id = $1`;

export const OPERATION_DISK = 'update operations set disk_id = $2 where operation_id = $1';

export const DISK_SIZE = 'select size_gb from disks where disk_id = $1';

export const LOCK_DISK = 'select 1 from disks where user_id = $1 and disk_name = $2 and purged_at is null for no key update';

export const RENAME_DISK = `update disks d set disk_name = $3, last_updated = now()
      where d.disk_id = $1
        and not exists (select from disks other
                         where other.user_id = $2 and other.disk_name = $3 and other.purged_at is null and other.disk_id <> d.disk_id)`;

/** What an operation asks of which actor. */
interface Asked {
  diskId: string;
  message: Message;
}

type Body<A extends DiskAction> = ReturnType<(typeof DiskMessages)[A]['parse']>;

/**
 * Accept an operation on a disk. What cannot be done: from a queue, a failed operation that its sender can read (S5, S14); over HTTP, a
 * problem at once.
 * @throws Problem if it is not understood, its id was used for another request, or (over HTTP) it cannot be done; nothing is written then.
 */
export async function acceptDiskOperation(
  kernel: Post,
  tx: Transaction,
  action: DiskAction,
  body: unknown,
  sender: Sender,
): Promise<Accepted> {
  const newId = sender.newId ?? uuidv7;
  const message = check(DiskMessages[action], body);
  const owner = message.user_id;
  const operationId = message.operation_id ?? message.idempotency_key ?? newId();
  const none: Accepted = { actor: '', key: '', reservationId: null, operationId, duplicate: false };
  const request = requestOf(message);

  const name = (request['disk_name'] ?? request['target_disk']) as string;
  const { rowCount } = await tx.query(OPEN_OPERATION, [operationId, owner, action, name, JSON.stringify(request)]);
  if (rowCount === 0) {
    await assertSame(tx, operationId, { owner, action, request });
    return { ...none, duplicate: true };
  }
  try {
    const { diskId, message: mail } = await ask(tx, action, message, { owner, operationId, newId, door: sender.door });
    await tx.query(OPERATION_DISK, [operationId, diskId]);
    await kernel.post([mail], tx);
    return { ...none, actor: mail.actor, key: mail.key };
  } catch (error) {
    if (!(error instanceof Problem) || !sender.door.startsWith('queue:')) throw error;
    await tx.query(FAIL_OPERATION, [operationId, error.message, error.code]);
    return none;
  }
}

const ASKS = ['disk_name', 'size_gb', 'delete_date', 'source_disk', 'target_disk', 'new_name', 'snapshot_id'];

/** The part of a message by which a repeated one is told from another. */
function requestOf(message: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(ASKS.flatMap((field) => (message[field] == null ? [] : [[field, message[field]]])));
}

/** @throws Problem if the operation of that id is somebody else's, or was another request */
async function assertSame(
  tx: Transaction,
  operationId: string,
  now: { owner: string; action: string; request: Record<string, unknown> },
): Promise<void> {
  const { rows } = await tx.query<{ user_id: string; action: string; request: unknown }>(EARLIER_OPERATION, [operationId]);
  const earlier = rows[0];
  if (earlier?.user_id !== now.owner) {
    throw new Problem('GPU_ID_TAKEN', 'This operation_id belongs to an operation of another user', { field: 'operation_id' });
  }
  const same = earlier.action === now.action && (earlier.request === null || isDeepStrictEqual(earlier.request, now.request));
  if (!same) {
    throw new Problem('GPU_IDEMPOTENCY_CONFLICT', `This operation_id was used for another request (${earlier.action})`, {
      field: 'operation_id',
      details: { action: earlier.action, request: earlier.request },
    });
  }
}

interface Asking {
  owner: string;
  operationId: string;
  newId: () => string;
  door: string;
}

/** @throws Problem if it cannot be done, as far as rows tell; whether the disk is in use is known in its own turn only */
async function ask(tx: Transaction, action: DiskAction, message: unknown, asking: Asking): Promise<Asked> {
  const { owner, operationId } = asking;
  switch (action) {
    case 'create_disk': {
      const { disk_name: name, size_gb: sizeGb } = message as Body<'create_disk'>;
      return created(tx, { id: asking.newId(), owner, name, sizeGb: sizeGb ?? DEFAULT_SIZE_GB, cloneOf: null, operationId });
    }
    case 'clone_disk': {
      const { source_disk: source, target_disk: target } = message as Body<'clone_disk'>;
      const from = await mustFind(tx, owner, source, 'source_disk');
      if (from.is_deleted) throw new Problem('GPU_DISK_DELETED', `The disk ${source} is deleted`, { field: 'source_disk' });
      const { rows } = await tx.query<{ size_gb: number }>(DISK_SIZE, [from.disk_id]);
      const clone = { id: asking.newId(), owner, name: target, sizeGb: rows[0]!.size_gb, cloneOf: from.disk_id, operationId };
      return created(tx, clone, 'target_disk');
    }
    case 'delete_disk': {
      const { disk_name: name, delete_date: date } = message as Body<'delete_disk'>;
      const disk = await mustFind(tx, owner, name);
      return told(disk, asking, { type: 'disk.delete', deleteAt: await deletionTime(tx, date ?? null) });
    }
    case 'undelete_disk':
      return told(await mustFind(tx, owner, (message as Body<'undelete_disk'>).disk_name), asking, { type: 'disk.undelete' });
    case 'rename_disk': {
      const { disk_name: name, new_name: newName } = message as Body<'rename_disk'>;
      // The order in which names are given is the order of the messages that tell of them.
      await tx.query(LOCK_DISK, [owner, name]);
      const disk = await mustFind(tx, owner, name);
      if (disk.is_deleted) throw new Problem('GPU_DISK_GONE', `The disk ${name} is deleted`, { field: 'disk_name' });
      await rename(tx, disk.disk_id, owner, newName);
      return told(disk, asking, { type: 'disk.renamed', name: newName });
    }
    case 'restore_disk': {
      const { disk_name: name, snapshot_id: snapshotId } = message as Body<'restore_disk'>;
      const disk = await mustFind(tx, owner, name);
      if (disk.is_deleted)
        throw new Problem('GPU_DISK_DELETED', `The disk ${name} is deleted; undelete it first`, { field: 'disk_name' });
      const { rowCount } = await tx.query(SNAPSHOT_IS_THERE, [snapshotId, disk.disk_id]);
      if (rowCount === 0)
        throw new Problem('GPU_SNAPSHOT_UNKNOWN', `The disk ${name} has no complete snapshot ${snapshotId}`, {
          field: 'snapshot_id',
        });
      return told(disk, asking, { type: 'disk.restore', snapshotId });
    }
  }
}

async function created(tx: Transaction, disk: Parameters<typeof birthOf>[0], field = 'disk_name'): Promise<Asked> {
  if (await insertDisk(tx, disk)) return { diskId: disk.id, message: birthOf(disk) };
  const there = await findDisk(tx, disk.owner, disk.name);
  const deleted = there?.is_deleted === true ? '; it is deleted, and can be brought back' : '';
  throw new Problem('GPU_DISK_EXISTS', `A disk called ${disk.name} exists already${deleted}`, { field });
}

function told(disk: DiskRow, { owner, operationId, door }: Asking, event: { type: string; [field: string]: unknown }): Asked {
  const message = {
    actor: `disk/${disk.disk_id}`,
    key: `op:${operationId}`,
    event: { ...event, by: owner, operationId },
    sender: door,
  };
  return { diskId: disk.disk_id, message };
}

async function mustFind(tx: Transaction, owner: string, name: string, field = 'disk_name'): Promise<DiskRow> {
  const disk = await findDisk(tx, owner, name);
  if (disk === null) throw new Problem('GPU_DISK_UNKNOWN', `There is no disk called ${name}`, { field });
  return disk;
}

/**
 * Give a disk another label. Its id, its volume and its snapshots stay what they are. Of two disks that want one name at the same time, the
 * second is refused.
 */
async function rename(tx: Transaction, diskId: string, owner: string, name: string): Promise<void> {
  const taken = new Problem('GPU_DISK_EXISTS', `A disk called ${name} exists already`, { field: 'new_name' });
  try {
    const { rowCount } = await tx.attempt(() => tx.query(RENAME_DISK, [diskId, owner, name]));
    if (rowCount === 0) throw taken;
  } catch (error) {
    if ((error as { code?: unknown }).code === '23505') throw taken;
    throw error;
  }
}
