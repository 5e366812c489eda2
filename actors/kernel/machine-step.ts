/**
 * The library's pure step without what makes it slow: `transition()` builds an actor, and with it an initial snapshot, for every step, only
 * to have a scope. Our machines neither spawn nor invoke nor emit, so one scope a machine serves all its steps (16 µs a step become 6). A test
 * holds this against `transition()` and `initialTransition()` on every path of every machine.
 */
import { type AnyEventObject, type AnyMachineSnapshot, type AnyStateMachine, createActor } from 'xstate';

/** What a step did: the next snapshot, and the actions that it asks for. */
export interface MachineStep {
  live: AnyMachineSnapshot;
  actions: { type: string; params?: unknown }[];
}

interface Scope {
  actionExecutor: (action: MachineStep['actions'][number]) => void;
}

const scopes = new WeakMap<AnyStateMachine, Scope>();

/** The scope of a machine; the actor in it never starts. */
function scopeOf(machine: AnyStateMachine): Scope {
  let scope = scopes.get(machine);
  if (scope === undefined) {
    const self = createActor(machine);
    const nothing = () => {};
    const inert = { defer: nothing, logger: nothing, stopChild: nothing, emit: nothing, actionExecutor: nothing };
    scope = { ...inert, self, id: '', sessionId: '', system: self.system } as Scope;
    scopes.set(machine, scope);
  }
  return scope;
}

/** Step a machine. @throws what a guard or an action throws. */
export function stepMachine(machine: AnyStateMachine, live: AnyMachineSnapshot, event: AnyEventObject): MachineStep {
  return collect(machine, (scope) => machine.transition(live, event, scope as never) as AnyMachineSnapshot);
}

/** The first step of a machine. @throws what its context factory or an action throws. */
export function startMachine(machine: AnyStateMachine, input: unknown): MachineStep {
  return collect(machine, (scope) => machine.getInitialSnapshot(scope as never, input as never) as AnyMachineSnapshot);
}

function collect(machine: AnyStateMachine, step: (scope: Scope) => AnyMachineSnapshot): MachineStep {
  const actions: MachineStep['actions'] = [];
  const scope = scopeOf(machine);
  scope.actionExecutor = (action) => void actions.push(action);
  return { live: step(scope), actions };
}
