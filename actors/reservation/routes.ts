/**
 * Handlers that publish and withdraw the way to a server's Jupyter through a load balancer. The place on it comes from a pool that is the
 * database's: a unique index, so two never get the same, tried anew when a stranger has it, and freed with its way.
 */
import type { ReservationEffect } from '../../machines/reservation.effects.ts';
import type { ReservationMessage } from '../../machines/reservation.events.ts';
import type { Store } from '../../persistence/database.ts';
import { TerminalError } from '../errors.ts';
import type { EffectContext } from '../kernel/kind.ts';
import { PlaceTakenError, type RouteObjects, type Routes } from './name-ports.ts';
import { readReservation } from './provision.ts';

type Effect<T extends ReservationEffect['type']> = Extract<ReservationEffect, { type: T }>;

export interface RoutePorts {
  db: Store;
  routes?: Routes | null;
}

interface RouteRow {
  load_balancer: string;
  place: number | null;
  jupyter_rule_arn: string | null;
}

/** Tries to find a place that no stranger has. Each tells all places in use, so the second succeeds but for a race. */
const TRIES = 5;

export const READ_ROUTE = 'select load_balancer, place, jupyter_rule_arn from alb_target_groups where reservation_id = $1';

export const ASK_ROUTE = `
  insert into alb_target_groups as a (reservation_id, domain_name, load_balancer, node, node_port) values ($1, $2, $3, $4, $5)
  on conflict (reservation_id) do update set domain_name = excluded.domain_name, load_balancer = excluded.load_balancer,
         node = excluded.node, node_port = excluded.node_port, published_at = null, updated_at = now()
   where a.load_balancer in ('', excluded.load_balancer)`;

// The lowest that is free. Of two who find the same one, the second gets a unique violation, and asks anew.
export const TAKE_PLACE = `
  update alb_target_groups set updated_at = now(), place = (
           select free from generate_series($2::int, $3::int) as free
            where free <> all($4::int[])
              and not exists (select 1 from alb_target_groups other where other.load_balancer = alb_target_groups.load_balancer and other.place = free)
            order by free limit 1)
   where reservation_id = $1
  returning place`;

export const ROUTE_PUBLISHED = `
  update alb_target_groups set jupyter_target_group_arn = $2, jupyter_rule_arn = $3, published_at = now(), problem = null, updated_at = now()
   where reservation_id = $1`;

export const ROUTE_PROBLEM = 'update alb_target_groups set problem = $2, updated_at = now() where reservation_id = $1';

export const ROUTE_GONE = 'delete from alb_target_groups where reservation_id = $1';

const UNIQUE_VIOLATION = '23505';

/** Publish the way to the Jupyter of a server; nothing if it no longer runs, or there is no load balancer. */
export async function publishRoute(
  { db, routes }: RoutePorts,
  effect: Effect<'route.publish'>,
  at: EffectContext,
): Promise<ReservationMessage | null> {
  if (routes == null) return null;
  const { generation, name, domain, node, port } = effect;
  const { state, context } = await readReservation(db, at.actor);
  const wanted = ['running', 'extending'].includes(state) && context.generation === generation && context.jupyter.state === 'on';
  if (!wanted) return null;
  const reservationId = context.id;
  const fqdn = `${name}.${domain}`;
  const asked = await db.query(ASK_ROUTE, [reservationId, fqdn, routes.loadBalancer, node, port]);
  if (asked.rowCount === 0) await refuseOtherPlace(db, reservationId, routes);
  const made = await noting(db, reservationId, async (): Promise<RouteObjects | TerminalError> => {
    let taken: readonly number[] = [];
    for (let tries = 1; ; tries++) {
      try {
        const place = await placeOf(db, reservationId, routes, taken);
        return await routes.publish({ reservationId, generation, fqdn, node, port, place });
      } catch (error) {
        if (error instanceof TerminalError) return error;
        if (!(error instanceof PlaceTakenError) || tries >= TRIES) throw error;
        taken = error.taken;
      }
    }
  });
  if (made instanceof TerminalError) {
    // The node's port stays the way. What was made of it before goes, so that it takes nobody's quota.
    await routes.withdraw({ reservationId, rule: null });
    await db.query(ROUTE_GONE, [reservationId]);
    return { type: 'route.failed', generation, reason: made.message };
  }
  await db.query(ROUTE_PUBLISHED, [reservationId, made.targetGroup, made.rule]);
  return { type: 'route.published', generation, url: made.url };
}

/** Withdraw the way, however it came to its end. */
export async function withdrawRoute(
  { db, routes }: RoutePorts,
  _effect: Effect<'route.withdraw'>,
  at: EffectContext,
): Promise<null> {
  const reservationId = at.actor.slice('reservation/'.length);
  const row = (await db.query<RouteRow>(READ_ROUTE, [reservationId])).rows[0];
  if (row === undefined) return null;
  await noting(db, reservationId, async () => {
    if (routes == null)
      throw new Error('No load balancer is configured here (JUPYTER_ALB_LISTENER_ARN), and a server has a way through one');
    await refuseOtherPlace(db, reservationId, routes);
    await routes.withdraw({ reservationId, rule: row.jupyter_rule_arn });
    await db.query(ROUTE_GONE, [reservationId]);
  });
  return null;
}

/** The place that the way has, or a new one that is none of those taken. @throws TerminalError if the pool is used up */
async function placeOf(db: Store, reservationId: string, { places }: Routes, taken: readonly number[]): Promise<number> {
  const held = (await db.query<RouteRow>(READ_ROUTE, [reservationId])).rows[0]?.place ?? null;
  if (held !== null && !taken.includes(held)) return held;
  for (;;) {
    try {
      const { rows } = await db.query<{ place: number | null }>(TAKE_PLACE, [reservationId, ...places, taken]);
      const place = rows[0]?.place ?? null;
      if (place !== null) return place;
      throw new TerminalError(`All ${places[1] - places[0] + 1} places on the load balancer are taken`);
    } catch (error) {
      if ((error as { code?: unknown }).code !== UNIQUE_VIOLATION) throw error;
    }
  }
}

/** @throws Error if the way was made on another load balancer: there it must be looked for */
async function refuseOtherPlace(db: Store, reservationId: string, { loadBalancer }: Routes): Promise<void> {
  const row = (await db.query<RouteRow>(READ_ROUTE, [reservationId])).rows[0];
  if (row !== undefined && row.load_balancer !== loadBalancer)
    throw new Error(`The way to Jupyter leads through ${row.load_balancer}, and the configured load balancer is ${loadBalancer}`);
}

async function noting<T>(db: Store, reservationId: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    await db.query(ROUTE_PROBLEM, [reservationId, problem.slice(0, 500)]).catch(() => {});
    throw error;
  }
}
