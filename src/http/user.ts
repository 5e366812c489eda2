/** As whom a request acts. */
import type { FastifyRequest } from 'fastify';
import type { Sender } from '../../actors/intake/doors.ts';
import { UserName } from '../../actors/intake/messages.ts';
import type { AuditEntry } from '../../persistence/audit.ts';
import { Problem } from '../errors.ts';
import { authorizeActingFor, authorizeList } from '../identity/authorize.ts';
import { principalOf } from './access.ts';

/**
 * The user as whom a request acts: the one of its key. An admin may name another in the body.
 * @throws Problem if there is no key, or somebody else names another user.
 */
export function requireUser(request: FastifyRequest, inBody?: unknown): string {
  const named = inBody === undefined || inBody === null ? null : nameOf(inBody, 'user_id');
  return authorizeActingFor(principalOf(request), named);
}

/**
 * Whose things a list shows: null for everybody's, which is for admins.
 * @throws Problem 403 if somebody else's are asked for by somebody who is no admin.
 */
export function userOfList(request: FastifyRequest, wished: string | undefined): string | null {
  return authorizeList(principalOf(request), wished);
}

/**
 * A user_id beside a thing that has an owner may name the sender or, for those who act for them, the owner.
 * @throws Problem 403 if it names somebody else
 */
export function refuseOtherUser(request: FastifyRequest, inBody: unknown, owner: string): void {
  if (inBody !== undefined && inBody !== null && nameOf(inBody, 'user_id') !== owner) requireUser(request, inBody);
}

/** Who sends a request, and from where, for the doors and the audit log. */
export function senderOf(request: FastifyRequest): NonNullable<Sender['by']> {
  const { user, keyPrefix } = principalOf(request);
  return { user, keyPrefix, address: request.ip, requestId: request.id };
}

/** A row of the audit log about what this request does. */
export function auditOf(
  request: FastifyRequest,
  action: string,
  object: string,
  details: Record<string, unknown> = {},
): AuditEntry {
  const { user, ...from } = senderOf(request);
  return { actor: user, door: 'http', action, object, details, ...from };
}

function nameOf(value: unknown, field: string): string {
  const name = UserName.safeParse(value);
  if (name.success) return name.data;
  throw new Problem('GPU_FIELD_INVALID', `The field ${field}: ${name.error.issues[0]!.message}`, { field });
}
