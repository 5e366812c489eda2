// The charts of all machines, with who is where and what moves.
import { useCallback, useEffect, useMemo, useState } from 'react';
import { useGet } from '../api.ts';
import { ChartView, type Picture } from '../chart/chart.tsx';
import { Details } from '../chart/details.tsx';
import { count } from '../format.ts';
import { lifecycle, useLive } from '../live.ts';
import type { Me } from '../session.ts';
import type { Chart } from '../types.ts';
import { Copy, Empty, Loading, Problem } from '../ui/parts.tsx';
import { linkTo } from '../ui/route.ts';
import { usePart, useStore } from '../ui/store.ts';
import { Residents } from './residents.tsx';

const NOWHERE: ReadonlySet<string> = new Set();

export default function LifecyclePage({ machine, me }: { machine: string; me: Me }) {
  useLive('lifecycle');
  const list = useGet<{ machines: { name: string; description: string }[] }>('/v1/machines');
  return (
    <div className="page lifecycle">
      <h1>Lifecycle</h1>
      <nav className="tabs" aria-label="Machines">
        {(list.data?.machines ?? []).map(({ name, description }) => (
          <a key={name} href={linkTo('lifecycle', name)} aria-current={name === machine ? 'page' : undefined} title={description}>
            {name}
            <LiveCount machine={name} />
          </a>
        ))}
      </nav>
      {list.error === null ? null : <Problem error={list.error} retry={list.reload} />}
      <Machine key={machine} name={machine} me={me} />
    </div>
  );
}

const ENDED = new Set(['expired', 'failed', 'cancelled']);

function LiveCount({ machine }: { machine: string }) {
  const total = usePart(lifecycle, (frame) =>
    Object.entries(frame?.counts[machine] ?? {}).reduce((sum, [path, number]) => (ENDED.has(path) ? sum : sum + number), 0),
  );
  return <span className="count">{count(total)}</span>;
}

function Machine({ name, me }: { name: string; me: Me }) {
  const { data: chart, error, reload } = useGet<Chart>(`/v1/machines/${encodeURIComponent(name)}/graph`);
  const [chosen, setChosen] = useState<string | null>(null);
  const choose = useCallback((id: string) => setChosen((now) => (now === id ? null : id)), []);
  const picture = useMemo<Picture>(
    () => ({ machine: name, numbers: true, active: NOWHERE, past: false, chosen, choose }),
    [name, chosen, choose],
  );
  if (error !== null) return <Problem error={error} retry={reload} />;
  if (chart === null) return <Loading what="the chart" />;
  const state = chart.nodes.find(({ id }) => id === chosen);
  return (
    <>
      <p className="quiet">
        {chart.description} Version {chart.version}. <Legend />
      </p>
      <Export name={name} />
      <div className="chart-with-details" data-open={chosen !== null}>
        <ChartView chart={chart} picture={picture} label={`Chart of ${name}`} />
        {chosen === null ? null : (
          <Details chart={chart} chosen={chosen} onClose={() => setChosen(null)}>
            {state === undefined || state.path === '' ? null : (
              <Residents key={state.path} machine={name} path={state.path} me={me} />
            )}
          </Details>
        )}
      </div>
      <NobodyThere machine={name} />
    </>
  );
}

const Legend = () => (
  <span>
    Numbers in states: how many are there now. Numbers on ways: how often they were taken in the last minute. Choose a state to
    see who is in it.
  </span>
);

function NobodyThere({ machine }: { machine: string }) {
  const frame = useStore(lifecycle);
  if (frame === null || Object.keys(frame.counts[machine] ?? {}).length > 0) return null;
  return <Empty title="Nobody is here yet">As soon as one exists, it shows in the chart.</Empty>;
}

/** The machine for those who want it elsewhere. */
function Export({ name }: { name: string }) {
  const { data } = useGet<unknown>(`/v1/machines/${encodeURIComponent(name)}.json`);
  const [url, setUrl] = useState<string | null>(null);
  const text = useMemo(() => (data === null ? '' : JSON.stringify(data, null, 2)), [data]);
  useEffect(() => {
    if (text === '') return;
    const made = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [text]);
  if (url === null) return null;
  return (
    <p className="row">
      <Copy text={text} label="Copy for Stately Studio" />
      <a href={url} download={`${name}.json`}>
        Download {name}.json
      </a>
    </p>
  );
}
