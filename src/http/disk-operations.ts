/** What is asked of disks: each POST and DELETE opens an operation, tells at once what cannot be done, and waits a little for the rest. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { isDeepStrictEqual } from 'node:util';
import { v5 as uuidv5, v7 as uuidv7 } from 'uuid';
import { acceptAction } from '../../actors/intake/doors.ts';
import type { DiskAction } from '../../actors/intake/messages.ts';
import { findDiskRow, findOperation, type OperationRow } from '../../persistence/disks.ts';
import { Problem, PROBLEMS, type ProblemCode } from '../errors.ts';
import type { HttpDeps } from './deps.ts';
import { noDisk, ownerOf } from './disk-access.ts';
import { viewOfOperation } from './disk-view.ts';
import { idempotencyKey } from './once.ts';
import { senderOf } from './user.ts';
import { until } from './waiting.ts';

/** Namespace of ids derived from idempotency keys: a key belongs to its user. */
const KEYED = 'd1a2f0c4-5f1b-4c55-9a6e-2b7b6a1f0d33';
/** How long an answer waits for the disk's turn. What may take minutes is not waited for: its operation can be asked for. */
const TURN_MS = 2_000;
const LONG_MS = 250;
const LONG: readonly DiskAction[] = ['clone_disk', 'restore_disk'];

export interface DiskWish {
  action: DiskAction;
  /** The disk in the path; null if there is none yet. */
  reference: string | null;
  /** Field of the message that names that disk. */
  names?: 'disk_name' | 'source_disk';
  fields: Record<string, unknown>;
  body?: { user_id?: string | null | undefined; idempotency_key?: string | null | undefined } | undefined;
}

/**
 * Ask it of the disk, once for each key of its owner.
 * @throws Problem if it cannot be done
 */
export async function operate(
  { db, kernel }: HttpDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  wish: DiskWish,
): Promise<FastifyReply> {
  const owner = ownerOf(request, wish.body?.user_id);
  const key = idempotencyKey(request, wish.body?.idempotency_key);
  const operationId = key === null ? uuidv7() : uuidv5(`${owner}\n${key}`, KEYED);
  const { action } = wish;

  const accepted = await db.withTransaction(async (tx) => {
    const earlier = key === null ? null : await findOperation(tx, operationId);
    if (earlier !== null) {
      assertSame(earlier, wish);
      return null;
    }
    const disk = wish.reference === null ? null : await findDiskRow(tx, owner, wish.reference);
    if (wish.reference !== null && disk === null) throw noDisk(wish.reference);
    const named = disk === null ? {} : { [wish.names ?? 'disk_name']: disk.name };
    const message = { ...wish.fields, ...named, user_id: owner, operation_id: operationId };
    return acceptAction(kernel, tx, { does: 'disk', action }, message, { door: 'http', key: null, by: senderOf(request) });
  });
  if (accepted !== null) {
    await kernel.pump(accepted.actor);
    kernel.wake();
    kernel.wakeOthers();
  }

  const patience = LONG.includes(action) ? LONG_MS : TURN_MS;
  const ended = await until(patience, async () => {
    const row = await findOperation(db, operationId);
    return row === null || row.status === 'pending' ? null : row;
  });
  const operation = ended ?? (await findOperation(db, operationId))!;
  if (operation.status === 'failed') throw await failureOf(db, operation);
  return reply.code(accepted === null ? 200 : 202).send(viewOfOperation(operation));
}

/** @throws Problem if the key was used for another request */
function assertSame(earlier: OperationRow, { action, names = 'disk_name', reference, fields }: DiskWish): void {
  const { [reference === null ? '' : names]: _path, ...asked } = earlier.request ?? {};
  const wanted = Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null));
  if (earlier.action === action && (earlier.request === null || isDeepStrictEqual(asked, wanted))) return;
  throw new Problem(
    'GPU_IDEMPOTENCY_CONFLICT',
    `This key was used for another request (${earlier.action} of ${earlier.disk_name})`,
    {
      field: 'idempotency_key',
      details: { operation_id: earlier.operation_id },
    },
  );
}

/** A failed operation as the refusal that it is. */
async function failureOf(db: HttpDeps['db'], operation: OperationRow): Promise<Problem> {
  const { code, error, operation_id, user_id, disk_name } = operation;
  const disk = disk_name === null ? null : await findDiskRow(db, user_id, disk_name);
  const known = code !== null && Object.hasOwn(PROBLEMS, code) ? (code as ProblemCode) : 'GPU_DISK_OPERATION_FAILED';
  return new Problem(known, error ?? 'The operation failed', {
    details: { operation_id, ...(disk?.in_use_by == null ? {} : { in_use_by: disk.in_use_by }) },
  });
}
