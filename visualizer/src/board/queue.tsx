// Who waits, in order.
import { duration, moment, relative } from '../format.ts';
import type { Waiting } from '../types.ts';
import { Empty } from '../ui/parts.tsx';
import { useNow } from '../ui/now.ts';
import { linkTo } from '../ui/route.ts';
import { VirtualList } from '../ui/virtual-list.tsx';

export function Queue({ waiting, me }: { waiting: readonly Waiting[]; me: string }) {
  if (waiting.length === 0) return <Empty title="Nobody waits" />;
  return (
    <VirtualList
      items={waiting}
      rowHeight={56}
      height={392}
      keyOf={({ gpu_type, since, user, position }) => `${gpu_type}${since}${user}${position}`}
      label="Who waits"
    >
      {(each) => <Row waiting={each} own={each.user === me} />}
    </VirtualList>
  );
}

function Row({ waiting, own }: { waiting: Waiting; own: boolean }) {
  const { gpu_type, position, user, name, slots, hours, since, estimated_start, waits_because, id } = waiting;
  const now = useNow();
  return (
    <div className="queue-row" data-own={own || undefined}>
      <b className="place">{position}</b>
      <span>
        {id === undefined ? (
          <span className="line" title={user}>
            {user}
          </span>
        ) : (
          <a className="line" href={linkTo('reservation', id)} title={user}>
            {`${name ?? ''} · ${user}`}
          </a>
        )}
        <span className="line quiet">
          {slots} × {gpu_type} for {duration(hours * 3_600_000)}
        </span>
      </span>
      <span className="quiet" title={waits_because ?? undefined}>
        {estimated_start === null
          ? (waits_because ?? `waits for ${duration(now - Date.parse(since))}`)
          : `about ${relative(estimated_start, now)} (${moment(estimated_start, now)})`}
      </span>
    </div>
  );
}
