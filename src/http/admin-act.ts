/** What all acts of operators have in common: who acts is audited in the transaction of the act. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { recordAudit } from '../../persistence/audit.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { Access } from '../identity/principal.ts';
import { senderOf } from './user.ts';

/** For operators alone. */
export const ADMIN = { access: { scope: 'admin', on: 'service' } satisfies Access };

/** Why; it stands in the audit log, and where those whom it concerns can read it. */
export const Reason = z.string().trim().min(3).max(500);

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
