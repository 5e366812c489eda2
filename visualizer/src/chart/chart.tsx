// A state machine as it was laid out by the service. Numbers come from a store, so a change draws nothing but itself anew.
import { Background, Controls, type Edge, MarkerType, type Node, ReactFlow, ReactFlowProvider } from '@xyflow/react';
import { createContext, useContext, useMemo } from 'react';
import { lifecycle } from '../live.ts';
import type { Chart, ChartEdge, ChartNode, LifecycleFrame } from '../types.ts';
import { usePart } from '../ui/store.ts';
import { StateNode } from './state-node.tsx';
import { Way } from './way.tsx';

export interface Picture {
  machine: string;
  /** Whether numbers of the whole are shown. */
  numbers: boolean;
  /** Paths of the states in which one actor is. */
  active: ReadonlySet<string>;
  /** Whether what is active is not now but was. */
  past: boolean;
  chosen: string | null;
  choose: (id: string) => void;
}
const PictureContext = createContext<Picture>(null as unknown as Picture);
export const usePicture = (): Picture => useContext(PictureContext);

/** A number of the lifecycle: it is drawn anew only when it changes. */
export function useNumber(of: 'counts' | 'traffic', ids: readonly string[]): number {
  const { machine, numbers } = usePicture();
  return usePart(lifecycle, (frame) => (numbers ? sum(frame, of, machine, ids) : 0));
}

function sum(frame: LifecycleFrame | null, of: 'counts' | 'traffic', machine: string, ids: readonly string[]): number {
  const own = frame?.[of][machine];
  if (own === undefined) return 0;
  return ids.reduce((total, id) => total + (own[id] ?? 0), 0);
}

const nodeTypes = { state: StateNode };
const edgeTypes = { way: Way };

export type StateData = { node: ChartNode; paths: string[] };
export type WayData = { edge: ChartEdge };

export function ChartView({ chart, picture, label }: { chart: Chart; picture: Picture; label: string }) {
  const nodes = useMemo(() => nodesOf(chart), [chart]);
  const edges = useMemo(() => edgesOf(chart), [chart]);
  return (
    <PictureContext.Provider value={picture}>
      <ReactFlowProvider>
        <section className="chart" aria-label={label}>
          <ReactFlow
            nodes={nodes}
            edges={edges}
            nodeTypes={nodeTypes}
            edgeTypes={edgeTypes}
            nodesDraggable={false}
            nodesConnectable={false}
            nodesFocusable={false}
            edgesFocusable={false}
            elementsSelectable={false}
            fitView
            fitViewOptions={{ padding: 0.02 }}
            minZoom={0.1}
            maxZoom={2}
            zoomOnDoubleClick={false}
            preventScrolling={false}
            proOptions={{ hideAttribution: true }}
          >
            <Background gap={24} />
            <Controls showInteractive={false} />
          </ReactFlow>
        </section>
      </ReactFlowProvider>
    </PictureContext.Provider>
  );
}

/** Paths of a state and of all states in it: whoever is in one of them is in it. */
function pathsWithin(chart: Chart, node: ChartNode): string[] {
  if (node.path === '') return [];
  return chart.nodes.filter(({ path }) => path === node.path || path.startsWith(`${node.path}.`)).map(({ path }) => path);
}

function nodesOf(chart: Chart): Node<StateData>[] {
  return chart.nodes.map((node) => ({
    id: node.id,
    type: 'state',
    position: { x: node.x, y: node.y },
    data: { node, paths: pathsWithin(chart, node) },
    width: node.width,
    height: node.height,
    ...(node.parent === null ? {} : { parentId: node.parent }),
  }));
}

function edgesOf(chart: Chart): Edge<WayData>[] {
  return chart.edges.map((edge) => ({
    id: edge.id,
    type: 'way',
    source: edge.source,
    target: edge.target,
    data: { edge },
    zIndex: 1,
    markerEnd: { type: MarkerType.ArrowClosed, width: 14, height: 14, color: 'var(--line)' },
  }));
}
