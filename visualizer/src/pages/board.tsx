// What there is, who has it until when, and what is one's own.
import { useMemo, useState } from 'react';
import { Calendar } from '../board/calendar.tsx';
import { Disks } from '../board/disks.tsx';
import { MyReservations } from '../board/mine.tsx';
import { Queue } from '../board/queue.tsx';
import { Types } from '../board/types.tsx';
import { board, useLive } from '../live.ts';
import type { Me } from '../session.ts';
import { Empty, Loading } from '../ui/parts.tsx';
import { useStore } from '../ui/store.ts';

const LEGEND: [state: string, name: string][] = [
  ['free', 'free'],
  ['provisioning', 'provisioning'],
  ['running', 'running'],
  ['snapshotting', 'snapshotting'],
  ['foreign', 'not ours'],
];

export function BoardPage({ me }: { me: Me }) {
  useLive('board,disks');
  const frame = useStore(board);
  const [type, setType] = useState<string | null>(null);
  const nodes = useMemo(() => (frame?.nodes ?? []).filter(({ gpu_type }) => type === null || gpu_type === type), [frame, type]);
  const waiting = useMemo(
    () => (frame?.waiting ?? []).filter(({ gpu_type }) => type === null || gpu_type === type),
    [frame, type],
  );
  const types = useMemo(
    () => (frame?.types ?? []).filter(({ total, queued, in_use }) => total > 0 || queued > 0 || in_use > 0),
    [frame],
  );
  return (
    <div className="page board">
      <h1>Board</h1>
      <section aria-labelledby="mine">
        <h2 id="mine">My reservations</h2>
        <MyReservations />
      </section>
      <section aria-labelledby="types">
        <h2 id="types">GPU types</h2>
        {frame === null ? (
          <Loading what="the board" />
        ) : types.length === 0 ? (
          <Empty title="No GPU is known yet">Nodes show here as soon as the cluster has told of them.</Empty>
        ) : (
          <Types types={types} chosen={type} choose={setType} />
        )}
      </section>
      {frame === null || nodes.length === 0 ? null : (
        <section aria-labelledby="nodes">
          <h2 id="nodes">Who holds what until when{type === null ? '' : `: ${type}`}</h2>
          <p className="legend quiet">
            {LEGEND.map(([state, name]) => (
              <span key={state}>
                <span className="slot" data-state={state} aria-hidden="true" /> {name}
              </span>
            ))}
          </p>
          <Calendar nodes={nodes} />
        </section>
      )}
      <div className="columns wide">
        <section aria-labelledby="queue">
          <h2 id="queue">Queue{type === null ? '' : `: ${type}`}</h2>
          {frame === null ? null : <Queue waiting={waiting} types={types} me={me.username} />}
        </section>
        <section aria-labelledby="disks">
          <h2 id="disks">My disks</h2>
          <Disks />
        </section>
      </div>
    </div>
  );
}
