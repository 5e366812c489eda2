// Who waits for what, in order: a line for each GPU type.
import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { get } from '../api.ts';
import { count, duration, moment, relative } from '../format.ts';
import type { GpuType, Waiting } from '../types.ts';
import { Empty, Problem } from '../ui/parts.tsx';
import { useNow } from '../ui/now.ts';
import { linkTo } from '../ui/route.ts';
import { VirtualList } from '../ui/virtual-list.tsx';

interface Props {
  waiting: readonly Waiting[];
  types: readonly GpuType[];
  me: string;
}

export function Queue({ waiting, types, me }: Props) {
  const lines = useMemo(() => [...Map.groupBy(waiting, ({ gpu_type }) => gpu_type)], [waiting]);
  if (lines.length === 0) return <Empty title="Nobody waits" />;
  return lines.map(([type, first]) => (
    <Line key={type} type={type} first={first} queued={types.find(({ gpu_type }) => gpu_type === type)?.queued ?? 0} me={me} />
  ));
}

function Line({ type, first, queued, me }: { type: string; first: readonly Waiting[]; queued: number; me: string }) {
  const { further, error, more } = useFurther(type, first, queued);
  const items = useMemo(() => [...first, ...further].map((each, index) => ({ ...each, position: index + 1 })), [first, further]);
  const reason = first[0]?.waits_because ?? null;
  const all = Math.max(queued, items.length);
  return (
    <section className="line-of-type" aria-label={`Queue for ${type}`}>
      <h3>
        {type} <span className="quiet">{all === 1 ? '1 waits' : `${count(all)} wait`}</span>
      </h3>
      {reason === null ? null : <p className="quiet first-waits">The first: {reason}</p>}
      <VirtualList
        items={items}
        rowHeight={56}
        height={336}
        keyOf={({ position }) => String(position)}
        label={`Who waits for ${type}`}
        onEnd={more}
      >
        {(each) => <Row waiting={each} own={each.user === me} />}
      </VirtualList>
      {error === null ? null : <Problem error={error} retry={more} />}
    </section>
  );
}

const PAGE = 500;
/** A line that moves is read anew, as far as it was read, no more often than this. */
const ANEW_MS = 3_000;

/** Those behind the ones that come by themselves: read when somebody scrolls to them. */
function useFurther(type: string, first: readonly Waiting[], queued: number) {
  const [further, setFurther] = useState<readonly Waiting[]>([]);
  const [error, setError] = useState<Error | null>(null);
  const reading = useRef(false);
  const timer = useRef<number | null>(null);
  const known = useRef({ first: 0, further: 0 });
  known.current = { first: first.length, further: further.length };

  /** All behind the first, up to this many. */
  const read = useCallback(
    async (from: number, upTo: number, keep: readonly Waiting[]) => {
      if (reading.current) return;
      reading.current = true;
      try {
        const found = [...keep];
        for (let after: number | null = from; after !== null && found.length < upTo; ) {
          const query: string = new URLSearchParams({ after: String(after), limit: String(PAGE) }).toString();
          type Page = { waiting: Omit<Waiting, 'estimated_start'>[]; next_after: number | null };
          const page: Page = await get<Page>(`/v1/gpus/${encodeURIComponent(type)}/queue?${query}`);
          found.push(...page.waiting.map((each) => ({ ...each, estimated_start: null })));
          after = page.next_after;
        }
        setFurther(found);
        setError(null);
      } catch (problem) {
        setError(problem as Error);
      }
      reading.current = false;
    },
    [type],
  );
  const total = first.length + further.length;
  const more = useCallback(() => {
    if (total < queued) void read(total, further.length + 1, further);
  }, [read, total, queued, further]);

  const head = first[0]?.since;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the line has moved when its head or its length is another
  useEffect(() => {
    if (known.current.further === 0) return;
    timer.current ??= window.setTimeout(() => {
      timer.current = null;
      void read(known.current.first, known.current.further, []);
    }, ANEW_MS);
  }, [read, queued, head]);
  useEffect(() => () => window.clearTimeout(timer.current ?? undefined), []);
  return { further, error, more };
}

function Row({ waiting, own }: { waiting: Waiting; own: boolean }) {
  const { gpu_type, position, user, name, slots, hours, since, estimated_start, waits_because, id } = waiting;
  const now = useNow();
  return (
    <div className="queue-row" data-own={own || undefined}>
      <b className="place">{count(position)}</b>
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
