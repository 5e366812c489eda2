/**
 * Handlers that publish and withdraw the names of servers. What is asked of DNS is written down first and forgotten when it is proven gone, so
 * that whoever comes after a crash knows what to look for.
 */
import type { ReservationEffect } from '../../machines/reservation.effects.ts';
import type { ReservationMessage } from '../../machines/reservation.events.ts';
import type { Store } from '../../persistence/database.ts';
import { TerminalError } from '../errors.ts';
import type { EffectContext } from '../kernel/kind.ts';
import { type Names, NO_ZONE } from './name-ports.ts';
import { readReservation } from './provision.ts';

type Effect<T extends ReservationEffect['type']> = Extract<ReservationEffect, { type: T }>;

export interface NamePorts {
  db: Store;
  names?: Names | null;
}

interface NameRow {
  fqdn: string | null;
  zone: string | null;
}

export const READ_NAME = 'select fqdn, zone from domain_mappings where reservation_id = $1';

export const ASK_NAME = `
  update domain_mappings set fqdn = $2, zone = $3, published_at = null, updated_at = now()
   where reservation_id = $1 and freed_at is null and (zone is null or (fqdn = $2 and zone = $3))`;

export const NAME_PUBLISHED =
  'update domain_mappings set published_at = now(), problem = null, updated_at = now() where reservation_id = $1 and fqdn = $2';

export const NAME_PROBLEM = 'update domain_mappings set problem = $2, updated_at = now() where reservation_id = $1';

export const NAME_GONE = `
  update domain_mappings set fqdn = null, zone = null, published_at = null, problem = null, updated_at = now()
   where reservation_id = $1 and fqdn = $2`;

export const DROP_FREED_NAME = 'delete from domain_mappings where reservation_id = $1 and freed_at is not null and fqdn is null';

/** Publish the name of a server that is usable; nothing if it no longer is. */
export async function publishName(
  { db, names }: NamePorts,
  effect: Effect<'name.publish'>,
  at: EffectContext,
): Promise<ReservationMessage | null> {
  const { generation, name, domain, host, port } = effect;
  const { state, context } = await readReservation(db, at.actor);
  if (!['running', 'extending'].includes(state) || context.generation !== generation) return null;
  const fqdn = `${name}.${domain}`;
  const reservationId = context.id;
  return noting(db, reservationId, async () => {
    const known = configured(names);
    const asked = await db.query(ASK_NAME, [reservationId, fqdn, known.zone]);
    if (asked.rowCount === 0) {
      await refuseOtherPlace(db, reservationId, known);
      return null;
    }
    try {
      await known.publish({ reservationId, generation, fqdn, host, port });
    } catch (error) {
      if (!(error instanceof TerminalError)) throw error;
      // Whatever stands there is not ours.
      await nameGone(db, reservationId, fqdn);
      return { type: 'name.failed', generation, reason: error.message };
    }
    await db.query(NAME_PUBLISHED, [reservationId, fqdn]);
    return { type: 'name.published', generation, name: fqdn };
  });
}

/** Withdraw the name of a server, however its reservation ended; then the name is free, if its owner has left it. */
export async function withdrawName({ db, names }: NamePorts, _effect: Effect<'name.withdraw'>, at: EffectContext): Promise<null> {
  const reservationId = at.actor.slice('reservation/'.length);
  const { rows } = await db.query<NameRow>(READ_NAME, [reservationId]);
  const { fqdn = null, zone = null } = rows[0] ?? {};
  if (fqdn === null) return null;
  return noting(db, reservationId, async () => {
    if (zone !== NO_ZONE) {
      const known = configured(names);
      await refuseOtherPlace(db, reservationId, known);
      await known.withdraw({ reservationId, fqdn });
    }
    await nameGone(db, reservationId, fqdn);
    return null;
  });
}

/** It is proven that nothing of this reservation stands under this name. In one transaction with its owner's end, or after it, the name is free. */
export function nameGone(db: Store, reservationId: string, fqdn: string): Promise<void> {
  return db.withTransaction(async (tx) => {
    // The row is locked by the first statement, so the second sees whether its owner has left meanwhile.
    await tx.query(NAME_GONE, [reservationId, fqdn]);
    await tx.query(DROP_FREED_NAME, [reservationId]);
  });
}

function configured(names: Names | null | undefined): Names {
  if (names == null) throw new Error('No DNS is configured here (DOMAIN_NAME), and a server has a name in one');
  return names;
}

/** @throws Error if the name stands in a zone that is not ours any more: there it must be looked for */
async function refuseOtherPlace(db: Store, reservationId: string, { zone }: Names): Promise<void> {
  const row = (await db.query<NameRow>(READ_NAME, [reservationId])).rows[0];
  if (row?.zone != null && row.zone !== zone)
    throw new Error(`The name ${row.fqdn} stands in the zone ${row.zone}, and the configured one is ${zone}`);
}

/** A failure is told where people look for the name. */
async function noting<T>(db: Store, reservationId: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    await db.query(NAME_PROBLEM, [reservationId, problem.slice(0, 500)]).catch(() => {});
    throw error;
  }
}
