/** Who may do what to what. Every decision of the API is made here, on plain values; nothing else in the service decides. */
import { Problem } from '../errors.ts';
import { type Access, type Principal, type Role, ROLES } from './principal.ts';

/** Something that has an owner, as the one who decides needs to know it. */
export interface Owned {
  kind: 'reservation' | 'disk';
  /** As it was asked for; it stands in the refusal. */
  id: string;
  owner: string;
  /** Role of the one who asks, if they are not its owner; null for none. */
  role: Role | null;
}

/**
 * Before anything is loaded: whether the key may be used for this route at all.
 * @throws Problem 401 without a key; 403 if its scopes do not suffice, or only an admin may.
 */
export function authorizeRoute(principal: Principal | null, access: Access): void {
  if (access === 'public') return;
  if (principal === null) {
    throw new Problem('GPU_KEY_MISSING', 'This needs an API key: Authorization: Bearer <key>');
  }
  if (!principal.scopes.has(access.scope)) {
    throw new Problem('GPU_SCOPE_MISSING', `This key may not be used for it: it lacks the scope ${access.scope}`, {
      details: { scope: access.scope, has: [...principal.scopes] },
    });
  }
  if (access.scope === 'admin' && !principal.admin) {
    throw new Problem('GPU_ADMIN_ONLY', 'Only an admin may do this');
  }
}

/**
 * Whether the principal may do to this object what the route does. Its owner may; an admin may; a collaborator as far as their role goes.
 * @throws Problem 404 to whom its existence is none of their business; 403 to a collaborator whose role does not suffice.
 */
export function authorizeObject(principal: Principal | null, access: Access, object: Owned): void {
  authorizeRoute(principal, access);
  if (access === 'public' || principal === null) return;
  if (object.owner === principal.user || principal.admin) return;
  if (object.role === null) throw hidden(object);
  const needed = access.role ?? 'own';
  if (ROLES.indexOf(object.role) >= ROLES.indexOf(needed)) return;
  throw new Problem('GPU_ROLE_INSUFFICIENT', `You may ${object.role} this ${object.kind}; for this one must ${needed} it`, {
    details: { role: object.role, needed },
  });
}

/**
 * Whose things a list shows: the name, or null for everybody's. Without a wish, one's own.
 * @param wished a user name, or `*`
 * @throws Problem 403 if somebody who is no admin wishes for others'
 */
export function authorizeList(principal: Principal, wished: string | undefined, field = 'user'): string | null {
  if (wished === undefined || wished === principal.user) return principal.user;
  if (!principal.admin) {
    throw new Problem('GPU_ADMIN_ONLY', `Only an admin may ask for what belongs to others: leave out ${field}`, { field });
  }
  return wished === '*' ? null : wished;
}

/**
 * As whom a request acts: its key's user, or for an admin the one whom the request names.
 * @throws Problem 403 if somebody who is no admin names another user
 */
export function authorizeActingFor(principal: Principal, named: string | null, field = 'user_id'): string {
  if (named === null || named === principal.user) return principal.user;
  if (principal.admin) return named;
  throw new Problem('GPU_USER_MISMATCH', `The field ${field} names another user than the key belongs to; leave it out`, {
    field,
  });
}

/** The same words as for something that is not there. */
function hidden({ kind, id }: Owned): Problem {
  return kind === 'reservation'
    ? new Problem('GPU_RESERVATION_UNKNOWN', `There is no reservation ${id.slice(0, 64)}`, { field: 'id' })
    : new Problem('GPU_DISK_UNKNOWN', `There is no disk ${id.slice(0, 64)}`, { field: 'name' });
}
