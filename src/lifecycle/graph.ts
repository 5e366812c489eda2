/** What is drawn of a machine: every state, and every transition of every state, those of the root and the transient ones included. */
import type { AnyStateMachine, AnyStateNode } from 'xstate';
import { nodesOf } from '../../machines/rules.ts';

/** `initial` and `any` are no states: where a state with states in it begins, and what may be left from anywhere in it. */
export type NodeType = 'atomic' | 'compound' | 'parallel' | 'final' | 'history' | 'initial' | 'any';

/** One transition, as its author wrote it. */
export interface ChartTransition {
  /** `<state>|<event>|<index>`, with `always` where nothing has to happen. */
  id: string;
  /** The state whose transition it is, and the one where it leads; null if it stays. */
  from: string;
  to: string | null;
  /** Null: taken at once. */
  event: string | null;
  guard: string | null;
  actions: string[];
  description: string | null;
  /** True if a guarded alternative of the same event stands before it. */
  otherwise: boolean;
}

export interface ChartNode {
  id: string;
  /** Below the machine, dotted; empty for the machine itself. */
  path: string;
  key: string;
  parent: string | null;
  type: NodeType;
  description: string;
  tags: string[];
  entry: string[];
  exit: string[];
  /** Ids of the states that are entered with it: one, or all of a parallel state. */
  initial: string[];
  /** What it takes without leaving it. */
  stays: ChartTransition[];
}

/**
 * A way between two neighbours that is drawn as one. What leads out of a state with states in it begins at its border, what leads into one ends
 * there, and each transition says from where to where it really goes: so a chart is read from the outside to the inside.
 */
export interface ChartEdge {
  id: string;
  /** The state in which it is drawn. */
  within: string;
  source: string;
  target: string;
  /** None for the way from an `initial`. */
  transitions: ChartTransition[];
}

export interface Chart {
  machine: string;
  version: string;
  description: string;
  nodes: ChartNode[];
  edges: ChartEdge[];
}

type Named = string | { type?: unknown; params?: unknown };
type Transition = {
  eventType: string;
  guard?: unknown;
  actions?: readonly unknown[];
  description?: string;
  target?: readonly AnyStateNode[] | undefined;
};

/** The chart of a machine, in the order in which its author wrote it. */
export function chartOf(name: string, machine: AnyStateMachine): Chart {
  const edges = new Map<string, ChartEdge>();
  const marks = new Map<string, ChartNode>();
  const draw = ({ within, source, target }: Way, transition: ChartTransition | null): void => {
    for (const end of [source, target]) if (end.mark !== null) marks.set(end.id, markOf(end.mark, end.id, within));
    const id = `${source.id}->${target.id}`;
    const edge = edges.get(id) ?? { id, within: within.id, source: source.id, target: target.id, transitions: [] };
    if (transition !== null) edge.transitions.push(transition);
    edges.set(id, edge);
  };
  const states = nodesOf(machine).map((node): ChartNode => {
    const state = stateOf(node);
    if (node.type === 'compound')
      draw({ within: node, source: initialOf(node), target: childOf(node, node.initial.target[0]!) }, null);
    for (const { transition, targets } of transitionsOf(node)) {
      if (targets.length === 0) state.stays.push({ ...transition, to: null });
      for (const target of targets) draw(wayOf(node, target), { ...transition, to: target.id });
    }
    return state;
  });
  const { version, config } = machine;
  return {
    machine: name,
    version: String(version ?? '1'),
    description: config.description ?? '',
    nodes: [...states, ...marks.values()],
    edges: [...edges.values()],
  };
}

/** An end of a way: a state, or a mark inside of one. */
type End = { id: string; mark: 'initial' | 'any' | null };
type Way = { within: AnyStateNode; source: End; target: End };

const initialOf = (node: AnyStateNode): End => ({ id: `${node.id}:initial`, mark: 'initial' });

/** The child of `node` that is `inner` or holds it. */
function childOf(node: AnyStateNode, inner: AnyStateNode): End {
  const chain = [inner, ...ancestorsOf(inner)];
  return { id: chain[chain.indexOf(node) - 1]!.id, mark: null };
}

function wayOf(from: AnyStateNode, to: AnyStateNode): Way {
  if (ancestorsOf(to).includes(from)) {
    return { within: from, source: { id: `${from.id}:any`, mark: 'any' }, target: childOf(from, to) };
  }
  if (ancestorsOf(from).includes(to)) return { within: to, source: childOf(to, from), target: initialOf(to) };
  const within = ancestorsOf(from).find((above) => ancestorsOf(to).includes(above)) ?? from;
  if (within === from) return { within, source: { id: from.id, mark: null }, target: { id: from.id, mark: null } };
  return { within, source: childOf(within, from), target: childOf(within, to) };
}

/** Inner ones first. */
function ancestorsOf(node: AnyStateNode): AnyStateNode[] {
  return node.parent === undefined ? [] : [node.parent, ...ancestorsOf(node.parent)];
}

const NOTHING = { tags: [], entry: [], exit: [], initial: [], stays: [] };

function markOf(type: 'initial' | 'any', id: string, within: AnyStateNode): ChartNode {
  const description = type === 'initial' ? `Where ${within.key} begins` : `From anywhere in ${within.key}`;
  return { ...NOTHING, id, path: '', key: type, parent: within.id, type, description };
}

function stateOf(node: AnyStateNode): ChartNode {
  const initial = node.type === 'parallel' ? Object.values(node.states) : (node.initial?.target ?? []);
  return {
    id: node.id,
    path: node.path.join('.'),
    key: node.key,
    parent: node.parent?.id ?? null,
    type: node.type,
    description: node.description ?? '',
    tags: [...node.tags].sort(),
    entry: node.entry.map(namedOf),
    exit: node.exit.map(namedOf),
    initial: (initial as AnyStateNode[]).map(({ id }) => id),
    stays: [],
  };
}

type Unaimed = Omit<ChartTransition, 'to'>;

function transitionsOf(node: AnyStateNode): { transition: Unaimed; targets: readonly AnyStateNode[] }[] {
  const alternatives: [string | null, readonly Transition[]][] = [
    ...([...node.transitions] as unknown as [string, Transition[]][]),
    [null, (node.always ?? []) as unknown as Transition[]],
  ];
  return alternatives.flatMap(([event, ways]) =>
    ways.map((way, index) => ({
      transition: {
        id: `${node.id}|${event ?? 'always'}|${index}`,
        from: node.id,
        event,
        guard: way.guard === undefined ? null : namedOf(way.guard as Named),
        actions: (way.actions ?? []).map((action) => namedOf(action as Named)),
        description: way.description ?? null,
        otherwise: index > 0,
      },
      targets: way.target ?? [],
    })),
  );
}

/** The name of an action or guard, with its params as far as they are plain values: `startLimit(queued)`. */
function namedOf(named: unknown): string {
  if (typeof named === 'string') return named;
  const { type, params } = named as Exclude<Named, string>;
  const values = Object.values((params ?? {}) as object).filter((value) => typeof value !== 'object');
  return values.length === 0 ? String(type) : `${String(type)}(${values.join(', ')})`;
}
