// One's own disks and their snapshots.
import { useState } from 'react';
import { useGet } from '../api.ts';
import { exact, gigabytes, relative } from '../format.ts';
import { disks } from '../live.ts';
import type { Disk, DiskSnapshot } from '../types.ts';
import { Empty, Loading, Problem, StateChip } from '../ui/parts.tsx';
import { useNow } from '../ui/now.ts';
import { linkTo } from '../ui/route.ts';
import { useStore } from '../ui/store.ts';

export function Disks() {
  const list = useStore(disks);
  if (list === null) return <Loading what="your disks" />;
  if (list.length === 0)
    return <Empty title="You have no disk yet">The first reservation makes one, unless it is told not to.</Empty>;
  return (
    <ul className="cards">
      {list.map((disk) => (
        <li key={disk.id}>
          <DiskCard disk={disk} />
        </li>
      ))}
    </ul>
  );
}

function DiskCard({ disk }: { disk: Disk }) {
  const { name, size_gb, state, in_use_by, is_deleted, delete_date, snapshot_count, last_snapshot_at, problem } = disk;
  const now = useNow();
  const [open, setOpen] = useState(false);
  return (
    <article className="card" aria-label={`Disk ${name}`}>
      <header className="row">
        <b className="card-name">{name}</b>
        <StateChip state={is_deleted ? 'cancelled' : in_use_by !== null ? 'running' : 'queued'}>
          {is_deleted ? 'deleted' : state}
        </StateChip>
        <span className="quiet">{size_gb} GB</span>
      </header>
      <p>
        {in_use_by === null ? 'Not in use' : <a href={linkTo('reservation', in_use_by)}>In use</a>}
        {last_snapshot_at === null ? ', no snapshot yet' : `, saved ${relative(last_snapshot_at, now)}`}
      </p>
      {delete_date === null ? null : <p>Is purged {relative(delete_date, now)}; until then it can be brought back.</p>}
      {problem === null ? null : <p className="problem">{problem}</p>}
      {snapshot_count === 0 ? null : (
        <button type="button" className="small" aria-expanded={open} onClick={() => setOpen(!open)}>
          {snapshot_count} {snapshot_count === 1 ? 'snapshot' : 'snapshots'}
        </button>
      )}
      {open ? <Snapshots disk={disk} /> : null}
    </article>
  );
}

function Snapshots({ disk }: { disk: Disk }) {
  // Another number of them makes another address, so the list is asked for anew.
  const path = `/v1/disks/${encodeURIComponent(disk.id)}/snapshots?limit=${Math.min(500, 20 + disk.snapshot_count)}`;
  const { data, error, reload } = useGet<{ snapshots: DiskSnapshot[] }>(path);
  if (error !== null) return <Problem error={error} retry={reload} />;
  if (data === null) return <Loading what="snapshots" />;
  return (
    <ul className="plain">
      {data.snapshots.map(({ id, status, created_at, size_bytes }) => (
        <li key={id}>
          {exact(created_at)}{' '}
          <span className="quiet">
            {status}
            {size_bytes === null ? '' : `, ${gigabytes(size_bytes)}`}
          </span>
        </li>
      ))}
    </ul>
  );
}
