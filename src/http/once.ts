/** The key by which a request that is sent again is known. */
import type { FastifyRequest } from 'fastify';
import { Problem } from '../errors.ts';

const LONGEST = 200;

/**
 * The header Idempotency-Key, or the field of the body; null if there is neither.
 * @throws Problem if it is no key, or the two differ
 */
export function idempotencyKey(request: FastifyRequest, inBody?: string | null): string | null {
  const header = request.headers['idempotency-key']?.toString();
  const field = 'idempotency_key';
  if (header !== undefined && (header === '' || header.length > LONGEST)) {
    throw new Problem('GPU_FIELD_INVALID', `The header Idempotency-Key must be 1 to ${LONGEST} characters`, { field });
  }
  if (header !== undefined && inBody != null && inBody !== header) {
    throw new Problem('GPU_FIELD_INVALID', 'The field idempotency_key and the header Idempotency-Key differ', { field });
  }
  return header ?? inBody ?? null;
}
