import { Handle, type Node, type NodeProps, Position } from '@xyflow/react';
import { memo } from 'react';
import { count, rate } from '../format.ts';
import { type StateData, useNumber, usePicture, useReveal } from './chart.tsx';

export const StateNode = memo(({ data: { node, paths } }: NodeProps<Node<StateData>>) => {
  const { active, past, chosen, choose } = usePicture();
  const reveal = useReveal();
  const inside = useNumber('counts', paths);
  const taken = useNumber(
    'traffic',
    node.stays.map(({ id }) => id),
  );
  const handles = (
    <>
      <Handle type="target" position={Position.Left} isConnectable={false} />
      <Handle type="source" position={Position.Right} isConnectable={false} />
    </>
  );
  if (node.type === 'initial' || node.type === 'any') {
    return (
      <div className={`mark ${node.type}`} title={node.description}>
        {node.type === 'any' ? '∗' : null}
        {handles}
      </div>
    );
  }
  const top = node.path.split('.')[0] ?? '';
  if (node.type === 'history') {
    return (
      <div className="mark history" title={node.description}>
        H∗
        {handles}
      </div>
    );
  }
  const isHere = active.has(node.path);
  return (
    <div
      className="state"
      data-type={node.type}
      data-state={top}
      data-root={node.parent === null}
      data-active={isHere ? (past ? 'past' : 'now') : undefined}
      data-chosen={chosen === node.id || undefined}
    >
      {handles}
      <div className="state-head">
        <button
          type="button"
          className="state-name nodrag nopan"
          aria-label={`${node.path === '' ? node.key : node.path}${isHere ? (past ? ', where it was' : ', where it is') : ''}${inside > 0 ? `, ${inside} in it` : ''}`}
          aria-pressed={chosen === node.id}
          title={node.description}
          onFocus={reveal}
          onClick={() => choose(node.id)}
        >
          {node.key}
        </button>
        {inside > 0 ? <span className="count">{count(inside)}</span> : null}
      </div>
      {node.stays.length > 0 ? (
        <div className="stays" title={`Takes ${node.stays.length} and stays`}>
          ↻ {node.stays.length}
          {taken > 0 ? <b className="rate"> · {rate(taken)}/min</b> : node.stays.length === 1 ? ' event' : ' events'}
        </div>
      ) : null}
    </div>
  );
});
