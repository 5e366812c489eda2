/** What all acts of operators have in common: who acts is audited in the transaction of the act, and a key makes a repeated one the same. */
import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { recordAudit } from '../../persistence/audit.ts';
import type { Transaction } from '../../persistence/database.ts';
import { Problem } from '../errors.ts';
import type { Access } from '../identity/principal.ts';
import type { HttpDeps } from './deps.ts';
import { idempotencyKey } from './once.ts';
import { senderOf } from './user.ts';

/** For operators alone. */
export const ADMIN = { access: { scope: 'admin', on: 'service' } satisfies Access };

/** Why; it stands in the audit log, and where those whom it concerns can read it. */
export const Reason = z.string().trim().min(3).max(500);
export const Key = z.string().min(1).max(200).nullish();

/** The operator who sends this request. */
export function operatorOf(request: FastifyRequest): string {
  return senderOf(request).user;
}

/** Note what an operator does, with the transaction in which it is done. */
export async function audit(
  tx: Transaction,
  request: FastifyRequest,
  act: { action: string; object: string; details?: Record<string, unknown> },
): Promise<void> {
  const { user, address, requestId, keyPrefix } = senderOf(request);
  await recordAudit(tx, { actor: user, door: 'http', ...act, address, requestId, keyPrefix });
}

/**
 * Act in one transaction, once for each key of the operator: sent again, the request gets the answer of the first time.
 * @throws Problem if the key was used for another request, or what the act throws; nothing is written then.
 */
export async function actOnce<T extends object>(
  db: HttpDeps['db'],
  request: FastifyRequest,
  act: (tx: Transaction) => Promise<T>,
): Promise<T> {
  const { idempotency_key: inBody, ...body } = (request.body ?? {}) as { idempotency_key?: string | null };
  const key = idempotencyKey(request, inBody);
  if (key === null) return db.withTransaction(act);
  const user = operatorOf(request);
  const hash = createHash('sha256').update(JSON.stringify(body)).digest('hex').slice(0, 16);
  const name = `${request.method} ${request.url.split('?', 1)[0]!} ${hash}`;
  return db.withTransaction(async (tx) => {
    const { rowCount } = await tx.query(
      'insert into admin_acts (user_name, key, act) values ($1, $2, $3) on conflict (user_name, key) do nothing',
      [user, key, name],
    );
    if (rowCount === 0) return earlier<T>(tx, user, key, name);
    const answer = await act(tx);
    await tx.query('update admin_acts set answer = $3 where user_name = $1 and key = $2', [user, key, JSON.stringify(answer)]);
    return answer;
  });
}

async function earlier<T>(tx: Transaction, user: string, key: string, name: string): Promise<T> {
  const { rows } = await tx.query<{ act: string; answer: T }>(
    'select act, answer from admin_acts where user_name = $1 and key = $2',
    [user, key],
  );
  const found = rows[0]!;
  if (found.act === name) return found.answer;
  throw new Problem('GPU_IDEMPOTENCY_CONFLICT', 'This key was used for another request', { field: 'idempotency_key' });
}
