/** DNS and a load balancer of the simulated world, and the ports of one process to them. */
import { type Names, PlaceTakenError, type Routes } from '../../../actors/reservation/name-ports.ts';
import type { Network } from './network.ts';
import type { Session } from './scheduler.ts';

export const DOMAIN = 'dev.test';
const PLACES = [1, 60] as const;

export class Published {
  /** Whose record stands under a name. */
  readonly records = new Map<string, string>();
  /** Whose way has a place. */
  readonly places = new Map<number, string>();

  /** What is left, in words. */
  *left(): Generator<string> {
    for (const [name, id] of this.records) yield `the record ${name} of ${id}`;
    for (const [place, id] of this.places) yield `the way at place ${place} of ${id}`;
  }
}

interface Outside {
  network: Network;
  published: Published;
  /** True if the reservation is no longer served. */
  isOver: (reservationId: string) => boolean;
  violated: (rule: string, what: string) => void;
}

/** A request that was under way for longer than its sender lived makes what the comparison with reality removes: it is left out here. */
export function namesOf({ network, published, isOver, violated }: Outside, session: Session): Names {
  return {
    zone: 'zone',
    publish: ({ reservationId, fqdn }) =>
      network.call(
        session,
        'publish name',
        () => {
          if (isOver(reservationId)) return;
          const holder = published.records.get(fqdn) ?? reservationId;
          if (holder !== reservationId)
            violated('a live name has one owner', `${fqdn} of ${holder} is published for ${reservationId}`);
          published.records.set(fqdn, reservationId);
        },
        false,
      ),
    withdraw: ({ reservationId, fqdn }) =>
      network.call(session, 'withdraw name', () => {
        if (published.records.get(fqdn) === reservationId) published.records.delete(fqdn);
      }),
  };
}

export function routesOf({ network, published, isOver, violated }: Outside, session: Session): Routes {
  return {
    loadBalancer: 'balancer',
    places: PLACES,
    publish: ({ reservationId, fqdn, place }) =>
      network.call(
        session,
        'publish way',
        () => {
          // A stranger whom no row knows has the first place.
          if (place === PLACES[0]) throw new PlaceTakenError([PLACES[0]]);
          const made = { url: `https://${fqdn}/`, targetGroup: `group-${reservationId}`, rule: `rule-${place}` };
          if (isOver(reservationId)) return made;
          const holder = published.places.get(place) ?? reservationId;
          if (holder !== reservationId) violated('a place has one way', `${place} of ${holder} is given to ${reservationId}`);
          published.places.set(place, reservationId);
          return made;
        },
        false,
      ),
    withdraw: ({ reservationId }) =>
      network.call(session, 'withdraw way', () => {
        for (const [place, id] of published.places) if (id === reservationId) published.places.delete(place);
      }),
  };
}
