// One's own reservations: how to connect, extend and cancel.
import { useState } from 'react';
import { relative, shortId } from '../format.ts';
import { mine } from '../mine.ts';
import { BuildLogOf } from '../reservation/build-log.tsx';
import { Cancel, Extend } from '../reservation/actions.tsx';
import type { Reservation } from '../types.ts';
import { Copy, Empty, Loading, StateChip } from '../ui/parts.tsx';
import { useNow } from '../ui/now.ts';
import { linkTo } from '../ui/route.ts';
import { useStore } from '../ui/store.ts';
import { VirtualList } from '../ui/virtual-list.tsx';

/** More than these are listed in rows. */
const CARDS = 12;

export function MyReservations() {
  const { known, byId } = useStore(mine);
  if (!known) return <Loading what="your reservations" />;
  const all = [...byId.values()].sort(newestFirst);
  const live = all.filter(({ ended_at }) => ended_at === null);
  const ended = all.filter(({ ended_at }) => ended_at !== null);
  return (
    <>
      {live.length === 0 ? (
        <Empty title="You hold no reservation">
          Reserve one on the command line: <code>gpu-dev reserve --type h100 --gpus 1 --hours 4</code>
        </Empty>
      ) : live.length <= CARDS ? (
        <ul className="cards">
          {live.map((reservation) => (
            <li key={reservation.id}>
              <Card reservation={reservation} />
            </li>
          ))}
        </ul>
      ) : (
        <VirtualList items={live} rowHeight={44} height={440} keyOf={({ id }) => id} label="Your reservations">
          {(reservation) => <Row reservation={reservation} />}
        </VirtualList>
      )}
      {ended.length === 0 ? null : (
        <details>
          <summary>Ended lately: {ended.length}</summary>
          <ul className="plain">
            {ended.map(({ id, name, state, failure_reason }) => (
              <li key={id}>
                <a href={linkTo('reservation', id)}>{name}</a> <StateChip state={state} />{' '}
                <span className="quiet">{failure_reason}</span>
              </li>
            ))}
          </ul>
        </details>
      )}
    </>
  );
}

const newestFirst = (a: Reservation, b: Reservation): number => (a.created_at < b.created_at ? 1 : -1);

function Card({ reservation }: { reservation: Reservation }) {
  const { id, name, state, substate, detail, gpu_type, gpu_count, ssh_command, accepts } = reservation;
  const [log, setLog] = useState(false);
  return (
    <article className="card" aria-label={`Reservation ${name}`} data-id={id}>
      <header className="row">
        <a className="card-name" href={linkTo('reservation', id)}>
          {name}
        </a>
        <StateChip state={state}>{substate === null ? state : `${state} · ${substate}`}</StateChip>
        <span className="quiet">
          {gpu_count} × {gpu_type}
        </span>
      </header>
      <p className="card-detail" title={detail ?? undefined}>
        {detail}
      </p>
      <When reservation={reservation} />
      {ssh_command === null ? null : (
        <p className="row">
          <code className="connect">{ssh_command}</code>
          <Copy text={ssh_command} label="Copy" />
        </p>
      )}
      <div className="row">
        {accepts.includes('extend') ? <Extend reservation={reservation} /> : null}
        {accepts.includes('cancel') ? <Cancel reservation={reservation} /> : null}
        {state === 'building' ? (
          <button type="button" className="small" aria-expanded={log} onClick={() => setLog(!log)}>
            Build log
          </button>
        ) : null}
      </div>
      {log && state === 'building' ? <BuildLogOf id={id} /> : null}
    </article>
  );
}

function When({ reservation: { expires_at, position, estimated_start, waits_because } }: { reservation: Reservation }) {
  const now = useNow();
  if (expires_at !== null) return <p>Ends {relative(expires_at, now)}</p>;
  if (position === null) return null;
  return (
    <p>
      Place {position} in the queue
      {estimated_start === null ? '' : `, expected to start ${relative(estimated_start, now)}`}
      {waits_because === null ? '' : `. ${waits_because}`}
    </p>
  );
}

function Row({ reservation }: { reservation: Reservation }) {
  const { id, name, state, gpu_type, gpu_count, expires_at, position } = reservation;
  const now = useNow();
  return (
    <div className="row mine-row">
      <a href={linkTo('reservation', id)}>{name === '' ? shortId(id) : name}</a>
      <StateChip state={state} />
      <span className="quiet">
        {gpu_count} × {gpu_type}
      </span>
      <span className="quiet">
        {expires_at !== null ? `ends ${relative(expires_at, now)}` : position === null ? '' : `place ${position}`}
      </span>
    </div>
  );
}
