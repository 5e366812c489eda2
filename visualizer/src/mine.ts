// The reservations of the one who looks, as they live: a snapshot, and then every step.
import { useEffect } from 'react';
import { listen, type ServerEvent } from './events.ts';
import type { Reservation } from './types.ts';
import { createStore } from './ui/store.ts';

export interface Mine {
  /** False until the first snapshot is complete. */
  known: boolean;
  byId: ReadonlyMap<string, Reservation>;
}
export const mine = createStore<Mine>({ known: false, byId: new Map() });

/** How many that have ended stay in sight. */
const ENDED_SHOWN = 20;

interface StepData {
  reservation_id: string;
  seq: number;
  type: string;
  state: string | null;
  reservation: Reservation | null;
}
interface PositionData {
  reservation_id: string;
  position: number | null;
  estimated_start: string | null;
  waits_because: string | null;
}

/** Follow them while somebody is signed in. */
export function useMine(): void {
  useEffect(() => {
    const arriving = new Map<string, Reservation>();
    let fresh = true;
    const take = ({ name, data }: ServerEvent) => {
      if (name === 'reset') fresh = true;
      else if (name === 'snapshot') {
        const { reservations, more } = data as { reservations: Reservation[]; more: boolean };
        for (const each of reservations) arriving.set(each.id, each);
        if (more) return;
        const all = new Map(arriving);
        arriving.clear();
        mine.set((now) => ({ known: true, byId: fresh ? all : new Map([...now.byId, ...all]) }));
        fresh = false;
      } else if (name === 'position') put((data as PositionData).reservation_id, data as PositionData);
      else {
        const step = data as StepData;
        if (step.reservation !== null) put(step.reservation_id, step.reservation);
      }
    };
    return listen('/v1/stream', { onEvent: take });
  }, []);
}

function put(id: string, change: Partial<Reservation>): void {
  mine.set(({ known, byId }) => {
    const before = byId.get(id);
    if (before === undefined && change.state === undefined) return { known, byId };
    const next = new Map(byId);
    next.set(id, { ...(before as Reservation), ...change });
    const ended = [...next.values()]
      .filter(({ ended_at }) => ended_at !== null)
      .sort((a, b) => (a.ended_at! < b.ended_at! ? 1 : -1));
    for (const { id: old } of ended.slice(ENDED_SHOWN)) next.delete(old);
    return { known, byId: next };
  });
}
