/** Who sends a request. Until there are identities, the sender says so: in the body, or in a header. */
import type { FastifyRequest } from 'fastify';
import { UserName } from '../../actors/intake/messages.ts';
import { Problem } from '../errors.ts';

export const USER_HEADER = 'x-gpu-dev-user';

/**
 * The user that the header names, or null.
 * @throws Problem if it is no user name.
 */
export function userOfHeader(request: FastifyRequest): string | null {
  const value = request.headers[USER_HEADER];
  return value === undefined || value === '' ? null : nameOf(value, USER_HEADER);
}

/**
 * The user of a request that must have one.
 * @throws Problem if nobody is named, or two are.
 */
export function requireUser(request: FastifyRequest, inBody?: unknown): string {
  const header = userOfHeader(request);
  const body = inBody === undefined || inBody === null ? null : nameOf(inBody, 'user_id');
  if (header !== null && body !== null && header !== body) {
    throw new Problem('GPU_FIELD_INVALID', `The field user_id and the header ${USER_HEADER} name two users`, {
      field: 'user_id',
    });
  }
  const user = header ?? body;
  if (user === null) {
    throw new Problem('GPU_USER_MISSING', `Name the user: user_id in the body, or the header ${USER_HEADER}`, {
      field: 'user_id',
    });
  }
  return user;
}

function nameOf(value: unknown, field: string): string {
  const name = UserName.safeParse(value);
  if (name.success) return name.data;
  throw new Problem('GPU_FIELD_INVALID', `The field ${field}: ${name.error.issues[0]!.message}`, { field });
}
