// A state machine as it was laid out by the service. Numbers come from a store, so a change draws nothing but itself anew.
import {
  Background,
  Controls,
  type Edge,
  MarkerType,
  type Node,
  ReactFlow,
  ReactFlowProvider,
  useReactFlow,
  useStore as useFlowStore,
} from '@xyflow/react';
import { createContext, useContext, useEffect, useMemo, useRef } from 'react';
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
            minZoom={0.1}
            maxZoom={2}
            zoomOnDoubleClick={false}
            preventScrolling={false}
            proOptions={{ hideAttribution: true }}
          >
            <Background gap={24} />
            <Controls showInteractive={false} />
            <Aim chart={chart} active={picture.active} />
          </ReactFlow>
        </section>
      </ReactFlowProvider>
    </PictureContext.Provider>
  );
}

/** Zoom at which labels can be read, and the least at which a chart begins. */
const READABLE = 0.85;
const LEAST = 0.55;

/** Shows the state where one is; of a chart as a whole its beginning. */
function Aim({ chart, active }: { chart: Chart; active: ReadonlySet<string> }) {
  const { setCenter, setViewport } = useReactFlow();
  const width = useFlowStore((state) => state.width);
  const height = useFlowStore((state) => state.height);
  const ready = width > 0 && height > 0;
  const aimed = useRef<string | null>(null);
  const here = chart.nodes.filter(({ path }) => active.has(path)).at(-1)?.id ?? '';
  useEffect(() => {
    if (!ready || aimed.current === here) return;
    // Once it was shown, who looks elsewhere is left there until it moves.
    const first = aimed.current === null;
    aimed.current = here;
    if (here === '') {
      const zoom = Math.min(1, Math.max(LEAST, height / (chart.height + 20)));
      const fits = chart.width * zoom <= width;
      if (first)
        void setViewport({ x: fits ? (width - chart.width * zoom) / 2 : 8, y: (height - chart.height * zoom) / 2, zoom });
      return;
    }
    const { x, y } = middleOf(chart, here);
    const still = first || matchMedia('(prefers-reduced-motion: reduce)').matches;
    void setCenter(x, y, { zoom: READABLE, duration: still ? 0 : 400 });
  }, [ready, here, chart, width, height, setCenter, setViewport]);
  return null;
}

function middleOf(chart: Chart, id: string): { x: number; y: number } {
  const node = chart.nodes.find((each) => each.id === id)!;
  let { x, y } = { x: node.x + node.width / 2, y: node.y + node.height / 2 };
  for (let parent = node.parent; parent !== null; ) {
    const outer = chart.nodes.find((each) => each.id === parent)!;
    x += outer.x;
    y += outer.y;
    parent = outer.parent;
  }
  return { x, y };
}

/** What has the focus is brought into sight; a chart must not be scrolled by the browser beside its own pane. */
export function useReveal(): (event: { currentTarget: HTMLElement }) => void {
  const { screenToFlowPosition, setCenter, getZoom } = useReactFlow();
  return ({ currentTarget }) => {
    if (!currentTarget.matches(':focus-visible')) return;
    const pane = currentTarget.closest('.react-flow');
    pane?.scrollTo(0, 0);
    const { left, top, width, height } = currentTarget.getBoundingClientRect();
    const around = pane?.getBoundingClientRect();
    const inSight =
      around !== undefined &&
      left >= around.left &&
      top >= around.top &&
      left + width <= around.right &&
      top + height <= around.bottom;
    if (inSight) return;
    const { x, y } = screenToFlowPosition({ x: left + width / 2, y: top + height / 2 });
    void setCenter(x, y, { zoom: Math.max(getZoom(), LEAST) });
  };
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
