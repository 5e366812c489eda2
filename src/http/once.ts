/** The key by which a request that is sent again is known. */
import type { FastifyRequest } from 'fastify';
import { Problem } from '../errors.ts';

const LONGEST = 200;

/**
 * The header Idempotency-Key, or the field of the body; null if there is neither.
 * @param operationId another field that is a key, as messages of queues name it: without a header it goes first there
 * @throws Problem if the header is no key, or a field differs from it
 */
export function idempotencyKey(request: FastifyRequest, inBody?: string | null, operationId?: string | null): string | null {
  const header = request.headers['idempotency-key']?.toString();
  const field = 'idempotency_key';
  if (header !== undefined && (header === '' || header.length > LONGEST)) {
    throw new Problem('GPU_FIELD_INVALID', `The header Idempotency-Key must be 1 to ${LONGEST} characters`, { field });
  }
  if (header !== undefined) refuseOthers(header, { [field]: inBody, operation_id: operationId });
  return header ?? operationId ?? inBody ?? null;
}

function refuseOthers(header: string, inBody: Record<string, string | null | undefined>): void {
  for (const [field, key] of Object.entries(inBody)) {
    if (key == null || key === header) continue;
    throw new Problem('GPU_FIELD_INVALID', `The field ${field} and the header Idempotency-Key differ`, { field });
  }
}

/** A field of a body that nobody has checked yet, if it is a text. */
export function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}
