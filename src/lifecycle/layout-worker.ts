/** The thread that lays out charts with ELK, one after another. */
import { parentPort } from 'node:worker_threads';
import type { ElkExtendedEdge, ElkNode } from 'elkjs';
import elkModule from 'elkjs/lib/elk.bundled.js';
import type { Chart, ChartEdge, ChartNode, ChartTransition } from './graph.ts';
import type { Box, PlacedChart, PlacedEdge, PlacedNode, Point } from './layout.ts';

// CommonJS with a default of its own: how many times it is wrapped depends on who loads it.
const ELK = ((elkModule as { default?: unknown }).default ?? elkModule) as typeof elkModule.default;

const CHAR = 6.3;
const LINE = 15;
/** Of a state's box: its name, and below it what it takes without leaving. */
const NAME = 34;
const STAYS = 18;
/** Room for the name and the description of a state with states in it. */
const HEAD = 52;

const OPTIONS = {
  'elk.algorithm': 'layered',
  'elk.edgeRouting': 'ORTHOGONAL',
  'elk.hierarchyHandling': 'SEPARATE_CHILDREN',
  // Without it a state to which a retry leads back comes before the beginning.
  'elk.layered.cycleBreaking.strategy': 'MODEL_ORDER',
  'elk.layered.considerModelOrder.strategy': 'NODES_AND_EDGES',
  'elk.layered.spacing.nodeNodeBetweenLayers': '28',
  'elk.layered.spacing.edgeNodeBetweenLayers': '14',
  'elk.layered.spacing.edgeEdgeBetweenLayers': '10',
  'elk.spacing.nodeNode': '28',
  'elk.spacing.edgeNode': '14',
  'elk.spacing.edgeEdge': '10',
  'elk.spacing.edgeLabel': '3',
  'elk.spacing.labelNode': '6',
};
const FIRST = { 'elk.layered.layering.layerConstraint': 'FIRST' };

/** From this length on a line is folded. */
const LONGEST = 24;

/** Lines that a way shows; it says how many more there are. */
const MOST_LINES = 4;

/** What stands on a way: one line for each event and guard, with the inner states from and to which it goes. */
function linesOf({ source, target, transitions }: ChartEdge): string[] {
  const lines = new Map<string, string[]>();
  for (const transition of transitions) {
    const inner = transition.to === target || target.endsWith(':initial') ? '' : ` → ${transition.to!.split('.').at(-1)}`;
    const line = `${eventOf(transition)}${inner}`;
    const from = lines.get(line) ?? [];
    if (transition.from !== source && !source.endsWith(':any')) from.push(transition.from.split('.').at(-1)!);
    lines.set(line, from);
  }
  const all = [...lines].map(([line, from]) => (from.length === 0 ? line : `${shortened(from)}: ${line}`));
  const shown = all.length <= MOST_LINES ? all : all.slice(0, MOST_LINES - 1);
  const more = all.length - shown.length;
  return [...shown.flatMap(folded), ...(more === 0 ? [] : [`+ ${more} more`])];
}

/** A long line goes on below, so that charts become no wider than need be. */
function folded(line: string): string[] {
  const guard = line.indexOf(' [');
  return line.length <= LONGEST || guard < 0 ? [line] : [line.slice(0, guard), `    ${line.slice(guard + 1)}`];
}

function shortened(names: readonly string[]): string {
  return names.length <= 2 ? names.join(', ') : `${names[0]} + ${names.length - 1}`;
}

function eventOf({ event, guard, otherwise }: ChartTransition): string {
  const name = event ?? 'always';
  if (guard !== null) return `${name} [${guard}]`;
  return otherwise ? `${name} [else]` : name;
}

function sizeOf({ type, key, stays }: ChartNode): { width: number; height: number } {
  if (type === 'initial') return { width: 12, height: 12 };
  if (type === 'any' || type === 'history') return { width: 26, height: 26 };
  return { width: Math.max(120, Math.ceil(key.length * 8 + 62)), height: NAME + (stays.length === 0 ? 0 : STAYS) };
}

function elkNode(chart: Chart, node: ChartNode, depth: number): ElkNode {
  const children = chart.nodes.filter(({ parent }) => parent === node.id);
  if (children.length === 0)
    return { id: node.id, ...sizeOf(node), ...(node.type === 'initial' ? { layoutOptions: FIRST } : {}) };
  const head = node.stays.length === 0 ? HEAD - STAYS : HEAD;
  return {
    id: node.id,
    layoutOptions: {
      ...OPTIONS,
      // From left to right as a whole, from top to bottom within: the shape of a screen.
      'elk.direction': depth === 0 ? 'RIGHT' : 'DOWN',
      'elk.padding': `[top=${head},left=16,bottom=16,right=16]`,
      'elk.nodeSize.constraints': 'MINIMUM_SIZE',
      'elk.nodeSize.minimum': `(${Math.ceil(node.key.length * 8 + 130)}, 80)`,
    },
    children: children.map((child) => elkNode(chart, child, depth + 1)),
    edges: chart.edges.filter(({ within }) => within === node.id).map(elkEdge),
  };
}

function elkEdge(edge: ChartEdge): ElkExtendedEdge {
  const lines = linesOf(edge);
  const drawn = { id: edge.id, sources: [edge.source], targets: [edge.target] };
  if (lines.length === 0) return drawn;
  const width = Math.ceil(Math.max(...lines.map(({ length }) => length)) * CHAR) + 10;
  return { ...drawn, labels: [{ text: lines.join('\n'), width, height: lines.length * LINE + 4 }] };
}

async function place(chart: Chart): Promise<PlacedChart> {
  const top = chart.nodes.find(({ parent }) => parent === null)!;
  const layoutOptions = { 'elk.json.edgeCoords': 'ROOT', 'elk.padding': '[top=4,left=4,bottom=4,right=4]' };
  const laid: ElkNode = await new ELK().layout({ id: 'chart', layoutOptions, children: [elkNode(chart, top, 0)] });
  const boxes = new Map<string, ElkNode>();
  const ways = new Map<string, ElkExtendedEdge>();
  const collect = (node: ElkNode): void => {
    boxes.set(node.id, node);
    for (const edge of (node.edges ?? []) as ElkExtendedEdge[]) ways.set(edge.id, edge);
    node.children?.forEach(collect);
  };
  collect(laid);
  return {
    ...chart,
    width: Math.ceil(laid.width ?? 0),
    height: Math.ceil(laid.height ?? 0),
    nodes: chart.nodes.map((node): PlacedNode => ({ ...node, ...boxOf(boxes.get(node.id)) })),
    edges: chart.edges.map((edge): PlacedEdge => {
      const way = ways.get(edge.id)!;
      return { ...edge, points: pointsOf(way), label: boxOf(way.labels?.[0]), lines: linesOf(edge) };
    }),
  };
}

function boxOf(shape: Partial<Box> = {}): Box {
  const { x = 0, y = 0, width = 0, height = 0 } = shape;
  return { x: Math.round(x), y: Math.round(y), width: Math.ceil(width), height: Math.ceil(height) };
}

function pointsOf({ sections = [] }: ElkExtendedEdge): Point[] {
  return sections.flatMap(({ startPoint, bendPoints = [], endPoint }) =>
    [startPoint, ...bendPoints, endPoint].map(({ x, y }): Point => [Math.round(x), Math.round(y)]),
  );
}

parentPort!.on('message', (chart: Chart) => {
  place(chart).then(
    (placed) => parentPort!.postMessage({ placed }),
    (error: unknown) => parentPort!.postMessage({ problem: String(error) }),
  );
});
