/** Drives every path of a model: the shortest way to each vertex, and from there whatever may happen next, twice. */
import type { AnyMachineSnapshot } from 'xstate';
import type { ActorKind } from '../../actors/kernel/kind.ts';
import { begin, checkRoundTrip, type Promises, step, type Trace } from './drive.ts';
import { type Case, type GraphPath, shortestPaths } from './graph.ts';

export interface Scenario {
  name: string;
  birth: Case;
  events: (snapshot: AnyMachineSnapshot) => Case[];
}

export interface Model<Memory = unknown> {
  kind: ActorKind;
  scenarios: readonly Scenario[];
  key: (snapshot: AnyMachineSnapshot) => string;
  promises: Promises<Memory>;
  /** Results of earlier lives: nothing may change when they come. */
  late?: (snapshot: AnyMachineSnapshot) => Case[];
  /** More to hold at each vertex. */
  atVertex?: (trace: Trace<Memory>) => void;
}

export interface Explored {
  vertices: number;
  steps: number;
  taken: Set<string>;
  /** Vertices by state path. */
  states: Map<string, number>;
}

const graphs = new Map<string, GraphPath[]>();

/** The shortest path to each vertex of a scenario. */
export function pathsOf<Memory>(model: Model<Memory>, scenario: Scenario): GraphPath[] {
  const id = `${model.kind.kind}/${scenario.name}`;
  const known = graphs.get(id);
  if (known !== undefined) return known;
  const input = model.kind.input({ ...scenario.birth, at: '2026-03-02T10:00:00.000Z' });
  const paths = shortestPaths(model.kind.machine, { input, events: scenario.events, key: model.key });
  graphs.set(id, paths);
  return paths;
}

/** @throws BrokenPromise at the first promise that does not hold, with the way to it. */
export function explore<Memory>(model: Model<Memory>, scenario: Scenario): Explored {
  const { kind, promises } = model;
  const explored: Explored = { vertices: 0, steps: 0, taken: new Set(), states: new Map() };
  const birth = begin(kind, scenario.birth, promises);
  for (const name of birth.taken) explored.taken.add(name);
  const traces = new Map<string, Trace<Memory> | null>([['', birth]]);
  const go = (from: Trace<Memory>, event: Case): Trace<Memory> | null => {
    explored.steps++;
    const next = step(from, event, promises);
    for (const name of next?.taken ?? []) explored.taken.add(name);
    return next;
  };
  const follow = (events: readonly Case[]): Trace<Memory> | null => {
    const id = JSON.stringify(events);
    const known = events.length === 0 ? birth : traces.get(id);
    if (known !== undefined) return known;
    const before = follow(events.slice(0, -1));
    const trace = before === null ? null : go(before, events.at(-1)!);
    traces.set(id, trace);
    return trace;
  };
  for (const path of pathsOf(model, scenario)) {
    const trace = follow(path.events);
    if (trace === null)
      throw new Error(`${scenario.name}: a path waits for a deadline that nobody set: ${JSON.stringify(path.events.at(-1))}`);
    explored.vertices++;
    const state = JSON.stringify(trace.snapshot.value);
    explored.states.set(state, (explored.states.get(state) ?? 0) + 1);
    checkRoundTrip(kind, trace.snapshot);
    model.atVertex?.(trace);
    if (trace.snapshot.status !== 'active') continue;
    for (const event of scenario.events(trace.snapshot)) {
      const once = go(trace, event);
      if (once?.snapshot.status === 'active') go(once, event);
    }
    for (const event of model.late?.(trace.snapshot) ?? []) {
      const after = step(trace, event, promises);
      for (const name of after?.taken ?? []) explored.taken.add(name);
      if (after !== null && (after.snapshot !== trace.snapshot || after.intents.length > 0))
        throw new Error(`${scenario.name}: the late ${JSON.stringify(event)} changed ${state}`);
    }
  }
  return explored;
}
