import { type AnyMachineSnapshot, createActor, transition } from 'xstate';
import { describe, expect, it } from 'vitest';
import type { ActorKind } from '../../actors/kernel/kind.ts';
import { dehydrate, migrateSnapshot, ReviveError, revive } from '../../actors/kernel/revive.ts';
import type { Model } from '../model/explore.ts';
import { BIRTH, statePath } from '../model/graph.ts';
import { definitionHash, GOLDEN_MODELS, readGolden, readHashes, restingStates } from './golden.ts';

const reviveGolden = (kind: ActorKind, golden: ReturnType<typeof readGolden>[number]) =>
  revive(kind, migrateSnapshot(kind, golden.snapshot, golden.version));

describe.each(GOLDEN_MODELS.map((model): [string, Model] => [model.kind.kind, model]))('golden snapshots of %s', (name, model) => {
  const { kind } = model;
  const all = readGolden(name);

  it('exist for every state of the present version', () => {
    const present = all.filter((golden) => golden.version === kind.version).map((golden) => golden.state);
    expect(restingStates(kind).filter((state) => !present.includes(state)), 'run npm run golden').toEqual([]);
  });

  it('were made from the present definition', () => {
    expect(
      readHashes()[name],
      'The machine has changed. If its version was released, raise it and write a migration; then run npm run golden.',
    ).toEqual({ version: kind.version, hash: definitionHash(kind) });
  });

  it('revive, whatever their version, and their actors go on', () => {
    for (const golden of all) {
      const live = reviveGolden(kind, golden);
      if (golden.version === kind.version) {
        expect(statePath(live.value)).toBe(golden.state);
        expect(dehydrate(kind, live)).toEqual(golden.snapshot);
      }
      if (live.status !== 'active') continue;
      const stored = migrateSnapshot(kind, golden.snapshot, golden.version);
      let moved = 0;
      for (const unstamped of model.scenarios.flatMap((scenario) => scenario.events(live))) {
        const event = { ...unstamped, at: BIRTH };
        const [next, actions] = transition(kind.machine, live, event as never) as [AnyMachineSnapshot, unknown[]];
        if (next === live && actions.length === 0) continue;
        moved++;
        if (moved > 5) continue;
        const actor = createActor(kind.machine, { snapshot: { ...stored, children: {} } as never }).start();
        actor.send(event as never);
        expect(dehydrate(kind, actor.getSnapshot() as AnyMachineSnapshot)).toEqual(dehydrate(kind, next));
      }
      expect(moved, golden.state).toBeGreaterThan(0);
    }
    expect(all.length).toBeGreaterThanOrEqual(restingStates(kind).length);
  });
});

describe('a snapshot that nothing can revive is refused', () => {
  const { kind } = GOLDEN_MODELS[0]!;
  const golden = readGolden('reservation').find(({ state }) => state === 'running.serving')!;

  it('if its state is gone', () => {
    expect(() => revive(kind, { ...golden.snapshot, value: { running: 'renamed' } })).toThrow(ReviveError);
  });

  it('if its context does not fit', () => {
    const { generation: _generation, ...context } = golden.snapshot.context as Record<string, unknown>;
    expect(() => revive(kind, { ...golden.snapshot, context })).toThrow(/does not fit/);
  });

  it('if a migration is missing, and not if it is there', () => {
    const newer: ActorKind = { ...kind, version: 2 };
    expect(() => migrateSnapshot(newer, golden.snapshot, 1)).toThrow(/no migration from version 1/);
    const with1: ActorKind = { ...newer, migrations: { 1: (old) => ({ ...old, value: { running: 'grace' } }) } };
    expect(statePath(reviveGolden(with1, golden).value)).toBe('running.grace');
  });
});
