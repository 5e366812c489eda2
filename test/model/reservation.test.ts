import { type AnyStateNode, getNextTransitions, type AnyMachineSnapshot } from 'xstate';
import { describe, expect, it } from 'vitest';
import type { ActorKind } from '../../actors/kernel/kind.ts';
import { reservationMachine } from '../../machines/reservation.machine.ts';
import { nodesOf } from '../../machines/rules.ts';
import { begin, step, type Trace } from './drive.ts';
import { explore, pathsOf, type Scenario } from './explore.ts';
import { type Case, statePath, transitionNames } from './graph.ts';
import { RESERVATION_SCENARIOS, reservationEvents } from './reservation.cases.ts';
import { reservationModel } from './reservation.model.ts';
import { type ReservationMemory, reservationPromises } from './reservation.promises.ts';

const driven = new Set<string>();

describe('a reservation keeps its promises on every path of', () => {
  it.each(RESERVATION_SCENARIOS)('$name', (scenario) => {
    const { vertices, taken } = explore(reservationModel, scenario);
    for (const name of taken) driven.add(name);
    expect(vertices).toBeGreaterThan(60);
    expect(vertices).toBeLessThan(600);
  });

  it('and no transition is left out', () => {
    expect(transitionNames(reservationMachine).filter((name) => !driven.has(name))).toEqual([]);
    expect(driven.size).toBeGreaterThan(100);
  });
});

describe('while an extension is decided', () => {
  const [scenario] = RESERVATION_SCENARIOS;
  const paths = pathsOf(reservationModel, scenario!);
  const inState = (path: string) =>
    paths.filter(({ snapshot }) => statePath(snapshot.value) === path).map(({ snapshot }) => snapshot);
  const accepts = (snapshot: AnyMachineSnapshot) =>
    reservationEvents(snapshot)
      .filter((event) => !event.type.startsWith('extension.'))
      .filter((event) => snapshot.can({ ...event, at: '2026-03-02T11:00:00.000Z' } as never))
      .map((event) => JSON.stringify(event))
      .sort();
  const described = (snapshot: AnyMachineSnapshot) =>
    getNextTransitions(snapshot).map(({ eventType, guard }) => `${eventType} if ${JSON.stringify(guard ?? null)}`);

  it.each([
    ['serving', 'steady'],
    ['grace', 'grace'],
  ])('everything that running.%s accepts is accepted', (running, extending) => {
    const shown = described(inState(`extending.${extending}`)[0]!);
    for (const transition of described(inState(`running.${running}`)[0]!)) expect(shown).toContain(transition);
    const asked = inState(`extending.${extending}`);
    const jupyterOf = (snapshot: AnyMachineSnapshot) => (snapshot.context as { jupyter: { state: string } }).jupyter.state;
    let compared = 0;
    for (const snapshot of inState(`running.${running}`)) {
      const beside = asked.find((other) => jupyterOf(other) === jupyterOf(snapshot) && sameGeneration(other, snapshot));
      expect(beside, `extending.${extending} beside running.${running}`).toBeDefined();
      const missing = accepts(snapshot).filter((event) => !accepts(beside!).includes(event));
      expect(missing).toEqual([]);
      compared++;
    }
    expect(compared).toBeGreaterThan(4);
  });
});

function sameGeneration(one: AnyMachineSnapshot, other: AnyMachineSnapshot): boolean {
  return (one.context as { generation: number }).generation === (other.context as { generation: number }).generation;
}

it('every live state accepts a cancel, by itself or above it', () => {
  const live = nodesOf(reservationMachine).filter((node: AnyStateNode) => node.type === 'atomic' && node.always === undefined);
  expect(live.length).toBeGreaterThan(15);
  for (let node of live) {
    const { id } = node;
    while (!node.transitions.has('cancel') && node.parent !== undefined) node = node.parent;
    const alternatives = node.transitions.get('cancel') ?? [];
    expect(alternatives.at(-1), id).toBeDefined();
    expect(alternatives.at(-1)!.guard, id).toBeUndefined();
  }
});

describe('a late answer', () => {
  const scenario = RESERVATION_SCENARIOS[0]!;
  const until = (...events: Case[]) => {
    let trace: Trace<ReservationMemory> = begin(reservationModel.kind, scenario.birth, reservationPromises);
    for (const event of events) trace = step(trace, event, reservationPromises)!;
    return trace;
  };
  const generation = 1;
  const up: Case[] = [
    { type: 'capacity.granted', generation, grant: { node: 'h100-1', slots: [0, 1], zone: null } },
    {
      type: 'pod.created',
      generation,
      uid: 'pod-1',
      name: 'p',
      connection: { host: 'h', port: 1, podName: 'p', node: 'h100-1', sshCommand: 'ssh' },
    },
    { type: 'pod.ready', generation, uid: 'pod-1' },
  ];

  it('to an extension that was given up does not grant the next one', () => {
    const trace = until(
      ...up,
      { type: 'extend', by: null, hours: 1 },
      { type: 'deadline.extending' },
      { type: 'extend', by: null, hours: 20 },
      { type: 'extension.allowed', ask: 1 },
    );
    expect(statePath(trace.snapshot.value)).toBe('extending.steady');
    const after = step(trace, { type: 'extension.allowed', ask: 2 }, reservationPromises)!;
    expect(after.snapshot.context).toMatchObject({ totalHours: 24, lastExtension: { hours: 20, granted: true } });
  });

  it('an extension in the grace starts the warnings anew, and only those to come', () => {
    const trace = until(
      ...up,
      { type: 'deadline.expiry' },
      { type: 'extend', by: null, hours: 0.2 },
      { type: 'extension.allowed', ask: 1 },
    );
    expect([...trace.deadlines.keys()].sort()).toEqual(['expiry', 'warn5']);
  });
});

describe('a planted bug is found', () => {
  const withIntents = (change: (type: string) => { type: string }): ActorKind => ({
    ...reservationModel.kind,
    intents: (action, context, event, before) =>
      reservationModel.kind.intents({ ...action, ...change(action.type) }, context, event, before),
  });
  const swap = (from: string, to: string) => withIntents((type) => ({ type: type === from ? to : type }));
  const nothing = 'noteNothing';
  const without = (name: string): ActorKind => {
    const kind = swap(name, nothing);
    return { ...kind, intents: (action, ...rest) => (action.type === name ? [] : kind.intents(action, ...rest)) };
  };
  it.each<[string, ActorKind, RegExp]>([
    ['slots that are not returned', without('returnSlots'), /tagged holds-slots/],
    ['slots that are returned before the pod is gone', swap('removePod', 'returnSlots'), /without proof that the pod is gone/],
    ['slots that are returned twice', swap('detachDisk', 'returnSlots'), /without proof|are returned/],
    ['a place in the queue that is kept', without('withdrawAll'), /its name is freed 0 times|not given back/],
    ['a limit that is not set', without('startLimit'), /can hang|does not run from the entry/],
    ['a limit that is not cleared', without('clearLimit'), /deadlines are left at the end/],
    ['a stay that is not cleared', without('clearStay'), /deadlines are left at the end/],
    ['a disk that is not detached', without('detachDisk'), /its disk is left 0 times/],
    ['a name that is not freed', without('freeName'), /its name is freed 0 times/],
    ['a gang that is not told', without('tellGang'), /its gang is left 0 times/],
  ])('%s', (_what, kind, message) => {
    expect(firstBroken(kind, [...RESERVATION_SCENARIOS].reverse())).toMatch(message);
  });

  it.each<[string, ActorKind, RegExp]>([
    ['a name that is not withdrawn', without('withdrawNames'), /is still published/],
    ['a name that is withdrawn from a server that never was', swap('withdrawNames', 'withdrawRoute'), /never usable/],
  ])('%s', (_what, kind, message) => {
    // Only here do servers have names in DNS.
    expect(firstBroken(kind, RESERVATION_SCENARIOS.slice(0, 1))).toMatch(message);
  });
});

/** The first promise that is broken on the paths of these scenarios, in words; empty if none is. */
function firstBroken(kind: ActorKind, scenarios: readonly Scenario[]): string {
  for (const scenario of scenarios) {
    try {
      explore({ ...reservationModel, kind }, scenario);
    } catch (error) {
      return (error as Error).message;
    }
  }
  return '';
}
