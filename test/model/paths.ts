/** Few paths that drive much: what is slow is driven with these. */
import { type AnyMachineSnapshot, getInitialMicrosteps, initialTransition, transition } from 'xstate';
import { type Model, pathsOf, type Scenario } from './explore.ts';
import { BIRTH, type Case, statePath, transientTaken, transitionsTaken } from './graph.ts';

export interface Path {
  name: string;
  /** Birth first. */
  events: Case[];
}

/** Paths that together take every transition that the model can take, out of every state in which it can be taken. */
export function choosePaths(model: Model): Path[] {
  const chosen: Path[] = [];
  const covered = new Set<string>();
  for (const scenario of model.scenarios) {
    const vertices = pathsOf(model, scenario);
    const before = chosen.length;
    const choose = (events: readonly Case[]) => chosen.push({ name: scenario.name, events: [scenario.birth, ...events] });
    for (const { events } of [...vertices].sort((a, b) => b.events.length - a.events.length)) {
      if (cover(model, scenario, events, covered)) choose(events);
    }
    for (const { snapshot, events } of vertices) {
      if (snapshot.status !== 'active') continue;
      for (const event of [...scenario.events(snapshot), ...(model.late?.(snapshot) ?? [])]) {
        if (note(model, snapshot, event, covered)) choose([...events, event]);
      }
    }
    // A birth of its own kind is a path, also if all that can follow is driven by others.
    if (noteBirth(model, scenario, covered) && chosen.length === before) choose([]);
  }
  return chosen;
}

/** @returns true if it is born in a way in which none was before. */
function noteBirth({ kind }: Model, { birth }: Scenario, covered: Set<string>): boolean {
  const event = { ...birth, at: BIRTH };
  const steps = getInitialMicrosteps(kind.machine, kind.input(event) as never) as [AnyMachineSnapshot, unknown][];
  const names = steps.flatMap(([between]) => transientTaken(kind.machine, between, event)).map((name) => `unborn: ${name}`);
  const fresh = names.filter((name) => !covered.has(name));
  for (const name of fresh) covered.add(name);
  return fresh.length > 0;
}

/** @returns true if the events drive anything new. */
function cover(model: Model, scenario: Scenario, events: readonly Case[], covered: Set<string>): boolean {
  const { kind } = model;
  const birth = { ...scenario.birth, at: BIRTH };
  let [snapshot] = initialTransition(kind.machine, kind.input(birth) as never) as [AnyMachineSnapshot, unknown];
  let more = false;
  for (const event of events) {
    more = note(model, snapshot, event, covered) || more;
    [snapshot] = transition(kind.machine, snapshot, { ...event, at: BIRTH } as never) as [AnyMachineSnapshot, unknown];
  }
  return more;
}

function note({ kind }: Model, snapshot: AnyMachineSnapshot, event: Case, covered: Set<string>): boolean {
  const state = statePath(snapshot.value);
  const names = transitionsTaken(kind.machine, snapshot, { ...event, at: BIRTH }).map((name) => `${state}: ${name}`);
  const fresh = names.filter((name) => !covered.has(name));
  for (const name of fresh) covered.add(name);
  return fresh.length > 0;
}
