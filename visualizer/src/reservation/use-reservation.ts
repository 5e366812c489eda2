// One reservation as it lives, and its history as far as it has been read.
import { useEffect, useState } from 'react';
import { useGet } from '../api.ts';
import { listen } from '../events.ts';
import type { History, Reservation, Span } from '../types.ts';

export interface Watched {
  reservation: Reservation | null;
  history: History | null;
  spans: Span[];
  error: Error | null;
}

export function useReservation(id: string): Watched {
  const path = `/v1/reservations/${encodeURIComponent(id)}`;
  const [reservation, setReservation] = useState<Reservation | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const history = useGet<History>(`${path}/history?limit=5000`);
  const timeline = useGet<{ spans: Span[] }>(`${path}/timeline`);
  const { reload } = history;
  const { reload: reloadTimeline } = timeline;
  useEffect(
    () =>
      listen(`${path}/stream`, {
        onEvent: ({ name, data }) => {
          if (name === 'snapshot') {
            setReservation((data as { reservations: Reservation[] }).reservations[0] ?? null);
          } else if (name === 'position') setReservation((now) => (now === null ? now : { ...now, ...(data as object) }));
          else {
            const next = (data as { reservation?: Reservation | null }).reservation;
            if (next != null) setReservation(next);
            reload();
            reloadTimeline();
          }
        },
        onOver: setError,
      }),
    [path, reload, reloadTimeline],
  );
  return { reservation, history: history.data, spans: timeline.data?.spans ?? [], error: error ?? history.error };
}
