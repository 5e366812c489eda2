/** The journeys that together pass every crash point with every transition that can be on its way there. */
import { type AnyMachineSnapshot, transition } from 'xstate';
import { type Model, pathsOf } from '../model/explore.ts';
import { BIRTH, statePath, transitionsTaken } from '../model/graph.ts';
import { idOf, MODELS, ownedBy } from '../model/owned.ts';
import { choosePaths, type Path } from '../model/paths.ts';
import { type Journey, Plan, planJourney, type Way } from './journey.ts';
import { RESULTS } from './ways.ts';

/** What comes by itself, and is not sent. */
const OWN_WAYS: ReadonlySet<Way> = new Set<Way>(['effect', 'sweep']);
const IS_RESULT: ReadonlySet<string> = new Set(Object.values(RESULTS).flat());

/** A journey for each chosen path of each model. */
export function allJourneys(): Journey[] {
  return MODELS.flatMap((model) => {
    const paths = choosePaths(model);
    return [...paths, ...answeredPaths(model, paths)].map((path, number) => {
      const id = idOf(model, number);
      return planJourney(model.kind, ownedBy(path, number, id), number, id);
    });
  });
}

/**
 * Paths for results and deadlines that the given paths post, and that an effect or the sweeper could have brought: there, a step before asks for
 * the effect, or sets the deadline. Each state and transition once.
 */
function answeredPaths(model: Model, paths: readonly Path[]): Path[] {
  const { kind } = model;
  const found: Path[] = [];
  const answered = new Set<string>();
  const planOf = (path: Path) => {
    const plan = new Plan(kind, 0, 'model');
    for (const event of path.events) {
      const before = plan.twin.live;
      if (OWN_WAYS.has(plan.add(event))) for (const name of taken(model, before!, event)) answered.add(name);
    }
    return plan;
  };
  for (const path of paths) planOf(path);
  const tried = new Set<string>();
  for (const scenario of model.scenarios) {
    for (const vertex of pathsOf(model, scenario)) {
      const path = { name: scenario.name, events: [scenario.birth, ...vertex.events] };
      const open = (events: Path['events'], snapshot: AnyMachineSnapshot) => {
        if (snapshot.status !== 'active') return;
        let plan: Plan | null = null;
        for (const event of scenario.events(snapshot)) {
          if (!IS_RESULT.has(event.type) && !event.type.startsWith('deadline.')) continue;
          const fresh = taken(model, snapshot, event).filter((name) => !answered.has(name));
          if (fresh.length === 0) continue;
          plan ??= planOf({ name: path.name, events });
          if (!plan.brings(event)) continue;
          for (const name of fresh) answered.add(name);
          found.push({ name: path.name, events: [...events, event] });
        }
      };
      const { snapshot } = vertex;
      open(path.events, snapshot);
      if (snapshot.status !== 'active') continue;
      for (const event of scenario.events(snapshot)) {
        const combination = `${statePath(snapshot.value)} ${JSON.stringify(event)}`;
        if (tried.has(combination)) continue;
        tried.add(combination);
        const [after, actions] = transition(kind.machine, snapshot, { ...event, at: BIRTH } as never) as [
          AnyMachineSnapshot,
          unknown[],
        ];
        if (actions.length > 0) open([...path.events, event], after);
      }
    }
  }
  return found;
}

function taken({ kind }: Model, snapshot: AnyMachineSnapshot, event: Path['events'][number]): string[] {
  const state = statePath(snapshot.value);
  return transitionsTaken(kind.machine, snapshot, { ...event, at: BIRTH }).map((name) => `${state}: ${name}`);
}
