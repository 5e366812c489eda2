import { describe, expect, it } from 'vitest';
import { type AnyMachineSnapshot, initialTransition, transition } from 'xstate';
import { startMachine, stepMachine } from '../../actors/kernel/machine-step.ts';
import { dehydrate, revive } from '../../actors/kernel/revive.ts';
import { diskModel } from './disk.model.ts';
import type { Model } from './explore.ts';
import { poolModel } from './gpu-pool.model.ts';
import { BIRTH } from './graph.ts';
import { imageModel } from './image.model.ts';
import { choosePaths } from './paths.ts';
import { reservationModel } from './reservation.model.ts';

const MODELS = [reservationModel, diskModel, imageModel, poolModel] as unknown as Model[];

/** What can be compared of a step: the library makes new functions for each action. */
const plain = (live: AnyMachineSnapshot, actions: readonly { type: string; params?: unknown }[]) => ({
  value: live.value,
  context: live.context,
  status: live.status,
  history: Object.fromEntries(Object.entries(live.historyValue).map(([id, nodes]) => [id, nodes.map((node) => node.id)])),
  actions: actions.map(({ type, params }) => ({ type, params })),
});

describe.each(MODELS.map((model): [string, Model] => [model.kind.kind, model]))('the one scope of %s', (_name, model) => {
  it('makes every step of every path what the library makes of it', () => {
    const { kind } = model;
    let steps = 0;
    for (const path of choosePaths(model)) {
      const [birth, ...events] = path.events;
      const input = kind.input({ ...birth!, at: BIRTH });
      let [live, actions] = initialTransition(kind.machine, input as never) as [AnyMachineSnapshot, { type: string }[]];
      const first = startMachine(kind.machine, input);
      expect(plain(first.live, first.actions), path.name).toEqual(plain(live, actions));
      for (const event of events) {
        const stamped = { ...event, at: BIRTH };
        const ours = stepMachine(kind.machine, live, stamped);
        [live, actions] = transition(kind.machine, live, stamped as never) as [AnyMachineSnapshot, { type: string }[]];
        expect(plain(ours.live, ours.actions), `${path.name}: ${event.type}`).toEqual(plain(live, actions));
        steps++;
      }
    }
    expect(steps).toBeGreaterThan(10);
  });

  it('stores and revives every snapshot of every path as the library does', () => {
    const { kind } = model;
    let snapshots = 0;
    for (const path of choosePaths(model)) {
      const [birth, ...events] = path.events;
      let { live } = startMachine(kind.machine, kind.input({ ...birth!, at: BIRTH }));
      for (const event of [null, ...events]) {
        if (event !== null) ({ live } = stepMachine(kind.machine, live, { ...event, at: BIRTH }));
        const asStored = JSON.parse(JSON.stringify(dehydrate(kind, live))) as ReturnType<typeof dehydrate>;
        const { children: _none, ...theirs } = JSON.parse(JSON.stringify(kind.machine.getPersistedSnapshot(live)));
        expect(asStored, path.name).toEqual({ output: null, error: null, ...theirs });
        const library = kind.machine.restoreSnapshot({ ...structuredClone(asStored), children: {} } as never, {} as never);
        expect(revive(kind, asStored), path.name).toEqual(library);
        snapshots++;
      }
    }
    expect(snapshots).toBeGreaterThan(10);
  });
});
