import { BaseEdge, type Edge, EdgeLabelRenderer, type EdgeProps } from '@xyflow/react';
import { memo } from 'react';
import { rate } from '../format.ts';
import { useNumber, usePicture, useReveal, type WayData } from './chart.tsx';

export const Way = memo(({ id, data, markerEnd }: EdgeProps<Edge<WayData>>) => {
  const { edge } = data!;
  const { chosen, choose } = usePicture();
  const reveal = useReveal();
  const taken = useNumber(
    'traffic',
    edge.transitions.map((transition) => transition.id),
  );
  const { label, lines } = edge;
  const width = taken > 0 ? Math.min(6, 1.5 + Math.log10(1 + taken) * 1.5) : 1.25;
  const isChosen = chosen === id;
  return (
    <>
      <BaseEdge
        path={pathOf(edge.points)}
        className={`way${taken > 0 ? ' busy' : ''}${isChosen ? ' chosen' : ''}`}
        style={{ strokeWidth: width }}
        {...(markerEnd === undefined ? {} : { markerEnd })}
      />
      {lines.length === 0 ? null : (
        <EdgeLabelRenderer>
          <button
            type="button"
            className="way-label nodrag nopan"
            data-chosen={isChosen || undefined}
            aria-pressed={isChosen}
            style={{ transform: `translate(${label.x}px, ${label.y}px)`, width: label.width, height: label.height }}
            onFocus={reveal}
            onClick={() => choose(id)}
          >
            <span className="hidden">{`From ${shown(edge.source)} to ${shown(edge.target)}: `}</span>
            <span className="lines">{lines.join('\n')}</span>
            {taken > 0 ? <b className="rate">{rate(taken)}/min</b> : null}
          </button>
        </EdgeLabelRenderer>
      )}
    </>
  );
});

const shown = (id: string): string => id.replace(/^[^.]+\./, '');

/** Straight lines with rounded corners. */
function pathOf(points: readonly [number, number][]): string {
  const [first, ...rest] = points;
  if (first === undefined) return '';
  let path = `M${first[0]},${first[1]}`;
  rest.forEach(([x, y], index) => {
    const [px, py] = points[index]!;
    const next = rest[index + 1];
    if (next === undefined) {
      path += `L${x},${y}`;
      return;
    }
    const radius = Math.min(6, Math.hypot(x - px, y - py) / 2, Math.hypot(next[0] - x, next[1] - y) / 2);
    const before = toward([x, y], [px, py], radius);
    const after = toward([x, y], next, radius);
    path += `L${before[0]},${before[1]}Q${x},${y} ${after[0]},${after[1]}`;
  });
  return path;
}

function toward([x, y]: [number, number], [tx, ty]: readonly [number, number], by: number): [number, number] {
  const length = Math.hypot(tx - x, ty - y);
  return length === 0 ? [x, y] : [x + ((tx - x) / length) * by, y + ((ty - y) / length) * by];
}
