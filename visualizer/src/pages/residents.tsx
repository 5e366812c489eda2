// Who is in a state.
import { useCallback, useEffect, useRef, useState } from 'react';
import { get } from '../api.ts';
import { duration, shortId } from '../format.ts';
import { lifecycle } from '../live.ts';
import type { Me } from '../session.ts';
import type { Resident } from '../types.ts';
import { Empty, Loading, Problem } from '../ui/parts.tsx';
import { useNow } from '../ui/now.ts';
import { linkTo } from '../ui/route.ts';
import { usePart } from '../ui/store.ts';
import { VirtualList } from '../ui/virtual-list.tsx';

interface Page {
  residents: Resident[];
  next_cursor: string | null;
}

export function Residents({ machine, path, me }: { machine: string; path: string; me: Me }) {
  const [list, setList] = useState<Page | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const loading = useRef(false);
  const number = usePart(lifecycle, (frame) =>
    Object.entries(frame?.counts[machine] ?? {}).reduce(
      (sum, [at, count]) => (at === path || at.startsWith(`${path}.`) ? sum + count : sum),
      0,
    ),
  );
  const load = useCallback(
    async (cursor: string | null) => {
      if (loading.current) return;
      loading.current = true;
      try {
        const query = new URLSearchParams({
          limit: '500',
          ...(me.is_admin ? { user: '*' } : {}),
          ...(cursor === null ? {} : { cursor }),
        });
        const page = await get<Page>(`/v1/machines/${machine}/states/${encodeURIComponent(path)}?${query}`);
        setList((now) =>
          cursor === null || now === null ? page : { ...page, residents: [...now.residents, ...page.residents] },
        );
        setError(null);
      } catch (problem) {
        setError(problem as Error);
      }
      loading.current = false;
    },
    [machine, path, me.is_admin],
  );
  // Somebody came or went.
  // biome-ignore lint/correctness/useExhaustiveDependencies: the number tells that the list is another
  useEffect(() => void load(null), [load, number]);
  const next = list?.next_cursor ?? null;
  const onEnd = useCallback(() => {
    if (next !== null) void load(next);
  }, [load, next]);
  return (
    <section aria-label={`Who is in ${path}`}>
      <h3>
        In it now: {number}
        {me.is_admin ? '' : ' (yours are listed)'}
      </h3>
      {error === null ? null : <Problem error={error} retry={() => void load(null)} />}
      {list === null ? (
        error === null && <Loading what="who is in it" />
      ) : list.residents.length === 0 ? (
        <Empty title={me.is_admin ? 'Nobody' : 'None of yours'} />
      ) : (
        <VirtualList items={list.residents} rowHeight={40} height={360} keyOf={({ id }) => id} label={`In ${path}`} onEnd={onEnd}>
          {(resident) => <Row machine={machine} resident={resident} />}
        </VirtualList>
      )}
    </section>
  );
}

function Row({ machine, resident: { id, label, user_id: user, since } }: { machine: string; resident: Resident }) {
  const now = useNow();
  const text = label === id ? shortId(id) : label;
  return (
    <div className="resident">
      {machine === 'reservation' ? <a href={linkTo('reservation', id)}>{text}</a> : <span title={id}>{text}</span>}
      <span className="quiet">{user ?? ''}</span>
      <span className="quiet">{duration(now - Date.parse(since))}</span>
    </div>
  );
}
