/** Who sends a request, as far as its key tells, and what a route asks of them. */

/** What a key may be used for. `admin` does nothing in the hands of somebody who is no admin. */
export const SCOPES = ['read', 'reserve', 'disks', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];

/** What a collaborator may do with a reservation: see it; log in to it as well; everything its owner may. */
export const ROLES = ['view', 'attach', 'own'] as const;
export type Role = (typeof ROLES)[number];

/** The holder of a valid key. */
export interface Principal {
  userId: number;
  /** The name that owns reservations and disks. */
  user: string;
  scopes: ReadonlySet<Scope>;
  /** True only if both the user is an admin and the key has the scope `admin`. */
  admin: boolean;
  keyId: number;
  /** The beginning of the key, which names it in lists and in the audit log. */
  keyPrefix: string;
  /** GitHub name that the user has proven to be theirs; null if none. */
  github: string | null;
  /** When the key ends, in milliseconds since 1970. */
  expiresAt: number;
}

/**
 * What a route asks. `on` says whose thing it touches: one's own (`self`), a reservation or disk that has an owner, or something that
 * belongs to nobody (`service`). Of a reservation, `role` is the least that a collaborator must have; left out: `own`.
 */
export type Access =
  | 'public'
  | {
      scope: Scope;
      on: 'self' | 'reservation' | 'disk' | 'service';
      role?: Role;
    };
