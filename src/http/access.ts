/**
 * Who may send what: every route declares what it asks (`config: { access }`), keys are checked before a body is read, and the handlers of
 * owned things ask here about what they have loaded. The decisions themselves are made in src/identity/authorize.ts.
 */
import type { FastifyRequest } from 'fastify';
import { findStanding } from '../../persistence/collaborators.ts';
import type { Queryable } from '../../persistence/database.ts';
import { Problem } from '../errors.ts';
import { authorizeObject, authorizeRoute } from '../identity/authorize.ts';
import type { KeyRing } from '../identity/key-ring.ts';
import type { Access, Principal } from '../identity/principal.ts';
import type { Server } from './deps.ts';
import type { CountRefused } from './limits.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access;
    /** Of a route whose requests may end the key that they bear: what they do, as in {@link keyRequestName}. Sent again, they are let in. */
    endsOwnKey?: string;
  }
  interface FastifyInstance {
    /** Finds the holders of keys; {@link KeyRing.forget} after keys or users have changed. */
    keyRing: KeyRing;
    /** Every route, with what it asks. */
    routeTable: { method: string; url: string; access: Access }[];
  }
  interface FastifyRequest {
    /** Who asks; null on public routes. */
    principal: Principal | null;
  }
}

/** From here on the server refuses to have a route that does not say who may use it, and no request reaches a handler without the right. */
export function requireAccess(app: Server, keys: KeyRing, countRefused?: CountRefused): void {
  app.decorate('keyRing', keys);
  app.decorate('routeTable', []);
  app.decorateRequest('principal', null);
  app.addHook('onRoute', (route) => {
    const access = (route.config as { access?: Access } | undefined)?.access;
    if (access === undefined) throw new Error(`The route ${String(route.method)} ${route.url} does not declare its access`);
    for (const method of [route.method].flat()) app.routeTable.push({ method, url: route.url, access });
  });
  app.addHook('onRequest', async (request, reply) => {
    const { access, endsOwnKey } = request.routeOptions.config;
    // No route of ours has none: this is a path that leads nowhere.
    if (access === undefined || access === 'public') return;
    try {
      const once = request.headers['idempotency-key']?.toString();
      const known = endsOwnKey === undefined || once === undefined ? null : keyRequestName(endsOwnKey, once);
      request.principal = await keys.principalOf(request.headers.authorization, known);
      authorizeRoute(request.principal, access);
    } catch (error) {
      if (error instanceof Problem && error.status === 401) {
        void reply.header('www-authenticate', 'Bearer');
        await countRefused?.(request, reply);
      }
      throw error;
    }
  });
  app.addHook('onClose', () => keys.close());
}

/** By what a request for a key is known: each action has idempotency keys of its own. */
export function keyRequestName(action: string, idempotencyKey: string): string {
  return `${action}:${idempotencyKey}`;
}

/** The one who asks. @throws Problem on a route that is public */
export function principalOf(request: FastifyRequest): Principal {
  if (request.principal !== null) return request.principal;
  throw new Problem('GPU_KEY_MISSING', 'This needs an API key: Authorization: Bearer <key>');
}

/** What this request's route asks. */
export function accessOf(request: FastifyRequest): Access {
  return request.routeOptions.config.access ?? { scope: 'admin', on: 'service' };
}

/**
 * Make sure that this request may do to a reservation what its route does.
 * @param id a full id
 * @returns its owner
 * @throws Problem 404 if there is none, or none that the one who asks may know of; 403 if their role does not suffice
 */
export async function requireReservation(db: Queryable, request: FastifyRequest, id: string): Promise<{ owner: string }> {
  const principal = principalOf(request);
  const standing = await findStanding(db, id, principal.userId, principal.github);
  if (standing === null) {
    throw new Problem('GPU_RESERVATION_UNKNOWN', `There is no reservation ${id.slice(0, 64)}`, { field: 'id' });
  }
  authorizeObject(principal, accessOf(request), { kind: 'reservation', id, ...standing });
  return standing;
}

/**
 * Make sure that this request may do to a disk what its route does.
 * @throws Problem 404 if it is somebody else's
 */
export function requireDisk(request: FastifyRequest, disk: { name: string; owner: string }): void {
  authorizeObject(principalOf(request), accessOf(request), { kind: 'disk', id: disk.name, owner: disk.owner, role: null });
}
