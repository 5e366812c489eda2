// What a chosen state or way is, in full: all its transitions, with guards and actions.
import type { ReactNode } from 'react';
import type { Chart, ChartNode, ChartTransition } from '../types.ts';

export function Details({
  chart,
  chosen,
  onClose,
  children,
}: {
  chart: Chart;
  chosen: string;
  onClose: () => void;
  children?: ReactNode;
}) {
  const node = chart.nodes.find(({ id }) => id === chosen);
  const edge = chart.edges.find(({ id }) => id === chosen);
  return (
    <aside className="details" aria-label="What was chosen">
      <button type="button" className="small close" onClick={onClose}>
        Close
      </button>
      {node === undefined ? null : <StateDetails chart={chart} node={node} />}
      {edge === undefined ? null : (
        <>
          <h2>
            {short(edge.source)} → {short(edge.target)}
          </h2>
          <Transitions list={edge.transitions} />
        </>
      )}
      {children}
    </aside>
  );
}

function StateDetails({ chart, node }: { chart: Chart; node: ChartNode }) {
  const out = chart.edges.flatMap(({ transitions }) => transitions.filter(({ from }) => from === node.id));
  return (
    <>
      <h2>{node.path === '' ? node.key : node.path}</h2>
      <p>{node.description}</p>
      {node.tags.length === 0 ? null : <p className="quiet">Tags: {node.tags.join(', ')}</p>}
      {node.entry.length === 0 ? null : <p className="quiet">On entry: {node.entry.join(', ')}</p>}
      {node.exit.length === 0 ? null : <p className="quiet">On exit: {node.exit.join(', ')}</p>}
      {out.length === 0 ? null : (
        <>
          <h3>Leads on</h3>
          <Transitions list={out} />
        </>
      )}
      {node.stays.length === 0 ? null : (
        <>
          <h3>Takes and stays</h3>
          <Transitions list={node.stays} />
        </>
      )}
    </>
  );
}

function Transitions({ list }: { list: readonly ChartTransition[] }) {
  return (
    <ul className="transitions">
      {list.map(({ id, event, guard, actions, from, to, otherwise, description }) => (
        <li key={`${id}${to}`}>
          <b>{event ?? 'always'}</b>
          {guard === null ? (otherwise ? ' [else]' : '') : ` [${guard}]`}
          {to === null ? null : (
            <span className="quiet">
              {' '}
              {short(from)} → {short(to)}
            </span>
          )}
          {actions.length === 0 ? null : <span className="actions">{actions.join(', ')}</span>}
          {description === null ? null : <span className="quiet"> {description}</span>}
        </li>
      ))}
    </ul>
  );
}

const short = (id: string): string => id.replace(/^[^.]+\./, '');
