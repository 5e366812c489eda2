/** The graph of a machine, and what has been driven of it. The one place that knows the graph library. */
import { getShortestPaths } from '@xstate/graph';
import {
  type AnyMachineSnapshot,
  type AnyStateMachine,
  type AnyStateNode,
  getMicrosteps,
  initialTransition,
  transition,
} from 'xstate';
import type { StampedEvent } from '../../actors/kernel/kind.ts';
import { nodesOf } from '../../machines/rules.ts';

/** An event that waits for its stamp. */
export type Case = { type: string; [field: string]: unknown };

export interface GraphPath {
  /** Events from birth to the vertex, unstamped. */
  events: Case[];
  snapshot: AnyMachineSnapshot;
}

export interface GraphOptions {
  input: unknown;
  /** What may happen next in this state, in this context. */
  events: (snapshot: AnyMachineSnapshot) => Case[];
  /** Two snapshots with one key are one vertex: keeps the graph finite. */
  key: (snapshot: AnyMachineSnapshot) => string;
}

/** The time at which a graph stands still. */
export const BIRTH = '2026-03-02T10:00:00.000Z';
const MOST_TRAVERSALS = 400_000;

/** The shortest path to each vertex. */
export function shortestPaths(machine: AnyStateMachine, options: GraphOptions): GraphPath[] {
  const paths = getShortestPaths(machine, {
    input: options.input as never,
    limit: MOST_TRAVERSALS,
    events: (snapshot) =>
      snapshot.status === 'active'
        ? options.events(snapshot).map((event, index) => ({ ...event, index, at: BIRTH }) as never)
        : [],
    serializeState: (snapshot) => options.key(snapshot),
    serializeEvent: (event) => JSON.stringify(event),
  });
  return paths.map((path) => redrive(machine, options, path.steps as unknown as GraphStep[]));
}

type GraphStep = { event: Case; state: AnyMachineSnapshot };

/**
 * The path once more, with its own snapshots. The graph keeps one snapshot a vertex, and a path may reach that vertex with other counters
 * in its context than the graph's events were made for: each event is made anew, from its place in the list of cases.
 */
function redrive(machine: AnyStateMachine, options: GraphOptions, steps: readonly GraphStep[]): GraphPath {
  let [snapshot] = initialTransition(machine, options.input as never) as [AnyMachineSnapshot, unknown];
  const events: Case[] = [];
  for (const { event, state } of steps) {
    if (event.type !== 'xstate.init') {
      const own = options.events(snapshot)[event['index'] as number]!;
      events.push(own);
      [snapshot] = transition(machine, snapshot, { ...own, at: BIRTH } as never) as [AnyMachineSnapshot, unknown];
    }
    if (options.key(state) !== options.key(snapshot))
      throw new Error(`the way to ${options.key(state)} leads to ${options.key(snapshot)}`);
  }
  return { events, snapshot };
}

/** Names of all transitions of a machine, `state --event[n]--> targets`: guarded alternatives, those of the root, and `always` included. */
export function transitionNames(machine: AnyStateMachine): string[] {
  return nodesOf(machine).flatMap((node) => [
    ...[...node.transitions].flatMap(([type, alternatives]) => alternatives.map((to, index) => nameOf(node, type, index, to))),
    ...(node.always ?? []).map((to, index) => nameOf(node, 'always', index, to)),
  ]);
}

type Target = { target?: readonly AnyStateNode[] | undefined; guard?: unknown };

function nameOf(node: AnyStateNode, type: string, index: number, to: Target): string {
  const guard = to.guard === undefined ? '' : ` if ${guardName(to.guard)}`;
  return `${node.id} --${type}[${index}]${guard}--> ${to.target?.map(({ id }) => id).join(', ') ?? '(stays)'}`;
}

const guardName = (guard: unknown): string => (typeof guard === 'string' ? guard : String((guard as { type?: string }).type));

/** Names of the transitions that this event takes here, the transient ones that follow included. */
export function transitionsTaken(machine: AnyStateMachine, snapshot: AnyMachineSnapshot, event: StampedEvent): string[] {
  const chosen = machine.getTransitionData(snapshot, event as never);
  if (chosen.length === 0) return [];
  const names = chosen.map((to) => {
    const node = to.source as AnyStateNode;
    return nameOf(node, to.eventType, node.transitions.get(to.eventType)!.indexOf(to as never), to);
  });
  if (chosen.every(({ target }) => target === undefined)) return names;
  const steps = getMicrosteps(machine, snapshot, event as never) as [AnyMachineSnapshot, unknown][];
  return [...names, ...steps.flatMap(([between]) => transientTaken(machine, between, event))];
}

/** The `always` that leads on from here, if there is one. Guards are names, by rule. */
export function transientTaken(machine: AnyStateMachine, snapshot: AnyMachineSnapshot, event: StampedEvent): string[] {
  const guards = machine.implementations.guards as Record<string, (args: { context: unknown; event: unknown }) => boolean>;
  const active = snapshot._nodes as AnyStateNode[];
  for (const node of [...active].sort((a, b) => b.path.length - a.path.length)) {
    const always = node.always ?? [];
    const index = always.findIndex(
      (to) => to.guard === undefined || guards[guardName(to.guard)]!({ context: snapshot.context, event }),
    );
    if (index >= 0) return [nameOf(node, 'always', index, always[index]!)];
  }
  return [];
}

/** The state of a snapshot as a dotted path: `provisioning.creating`. */
export function statePath(value: unknown): string {
  if (typeof value === 'string') return value;
  const [name, below] = Object.entries(value as object)[0]!;
  return `${name}.${statePath(below)}`;
}
