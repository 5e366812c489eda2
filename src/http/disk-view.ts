/** Disks, and what was asked of them, as people and programs see them. */
import { z } from 'zod';
import type { DiskRow, OperationRow, SnapshotRow } from '../../persistence/disks.ts';

export const DiskView = z
  .object({
    id: z.string(),
    name: z.string(),
    disk_name: z.string().meta({ description: 'As `name`, for older clients.' }),
    user_id: z.string(),
    size_gb: z.number().int(),
    state: z.string(),
    created_at: z.string(),
    last_used: z.string().nullable(),
    in_use: z.boolean(),
    in_use_by: z.string().nullable().meta({ description: 'The reservation that holds it.' }),
    is_backing_up: z.boolean(),
    is_deleted: z.boolean(),
    delete_date: z.string().nullable().meta({ description: 'When it is purged; until then it can be brought back.' }),
    snapshot_count: z.number().int(),
    pending_snapshot_count: z.number().int(),
    latest_snapshot_id: z.string().nullable().meta({ description: 'What the next volume starts from.' }),
    last_snapshot_at: z.string().nullable(),
    problem: z.string().nullable(),
  })
  .meta({ description: 'A persistent disk.' });

export function viewOfDisk(row: DiskRow): z.infer<typeof DiskView> {
  return {
    ...row,
    disk_name: row.name,
    in_use: row.in_use_by !== null,
    created_at: row.created_at.toISOString(),
    last_used: iso(row.last_used),
    delete_date: iso(row.delete_date),
    last_snapshot_at: iso(row.last_snapshot_at),
  };
}

export const OperationView = z
  .object({
    operation_id: z.string(),
    disk_id: z.string().nullable(),
    disk_name: z.string().nullable(),
    user_id: z.string(),
    action: z.string().meta({ description: 'create, clone, delete, undelete, rename or restore.' }),
    status: z.enum(['pending', 'completed', 'failed']),
    message: z.string(),
    error: z.string().nullable(),
    code: z.string().nullable().meta({ description: 'Of the error; see docs/errors.md.' }),
    requested_at: z.string(),
    created_at: z.string().meta({ description: 'As `requested_at`.' }),
    updated_at: z.string(),
  })
  .meta({ description: 'An operation on a disk, and what became of it.' });

export function viewOfOperation(row: OperationRow): z.infer<typeof OperationView> {
  const { request: _request, waits_because: _because, ...columns } = row;
  return {
    ...columns,
    action: row.action.replace(/_disk$/, ''),
    message: messageOf(row),
    requested_at: row.created_at.toISOString(),
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}

const DONE: Record<string, string> = {
  create_disk: 'is there',
  clone_disk: 'is cloned',
  delete_disk: 'is deleted; it can be brought back until it is purged',
  undelete_disk: 'is back',
  rename_disk: 'has its new name',
  restore_disk: 'is set back; its next session starts from that snapshot',
};

function messageOf(row: OperationRow): string {
  const name = row.disk_name ?? 'of that operation';
  if (row.status === 'failed') return row.error ?? 'It failed';
  if (row.status === 'completed') return `The disk ${name} ${DONE[row.action] ?? 'is done'}`;
  return row.waits_because ?? `It is asked of the disk ${name}`;
}

export const SnapshotView = z
  .object({
    snapshot_id: z.string(),
    status: z.enum(['pending', 'complete', 'failed', 'removing']),
    created_at: z.string(),
    completed_at: z.string().nullable(),
    size_bytes: z.number().nullable(),
    reservation_id: z.string().nullable().meta({ description: 'The session at whose end it was taken.' }),
    reason: z.string().nullable().meta({ description: 'Why it failed.' }),
    is_latest: z.boolean().meta({ description: 'The next volume of the disk starts from it.' }),
    has_contents: z.boolean(),
  })
  .meta({ description: 'A snapshot of a disk.' });

export function viewOfSnapshot({ id, place: _place, ...row }: SnapshotRow, latest: string | null): z.infer<typeof SnapshotView> {
  return {
    ...row,
    snapshot_id: id,
    created_at: row.created_at.toISOString(),
    completed_at: iso(row.completed_at),
    is_latest: id === latest,
  };
}

export function iso(date: Date | null): string | null {
  return date === null ? null : date.toISOString();
}
