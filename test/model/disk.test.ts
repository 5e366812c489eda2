import { describe, expect, it } from 'vitest';
import { diskMachine } from '../../machines/disk.machine.ts';
import { DISK_SCENARIOS, diskModel, diskPromises, RESERVATIONS } from './disk.model.ts';
import { begin, step } from './drive.ts';
import { explore, pathsOf } from './explore.ts';
import { type Case, transitionNames } from './graph.ts';

const driven = new Set<string>();

describe('a disk keeps its promises on every path of', () => {
  it.each(DISK_SCENARIOS)('$name', (scenario) => {
    const { vertices, taken } = explore(diskModel, scenario);
    for (const name of taken) driven.add(name);
    expect(vertices).toBeGreaterThan(20);
  });

  it('and no transition is left out', () => {
    expect(transitionNames(diskMachine).filter((name) => !driven.has(name))).toEqual([]);
  });
});

it('whoever holds a disk may leave at any moment, and it ends free or with the next in line', () => {
  const scenario = DISK_SCENARIOS[1]!;
  let left = 0;
  for (const { snapshot, events } of pathsOf(diskModel, scenario)) {
    const { holder, waiters } = snapshot.context as { holder: string | null; waiters: string[] };
    if (holder === null || snapshot.status !== 'active') continue;
    let trace = begin(diskModel.kind, scenario.birth, diskPromises);
    for (const event of events) trace = step(trace, event, diskPromises)!;
    // A reservation with a server detaches, one without releases; both are idempotent, so both are sent.
    for (const type of ['disk.detach', 'disk.release']) trace = step(trace, { type, reservationId: holder }, diskPromises)!;
    for (let steps = 0; steps < 10 && (trace.snapshot.context as { holder: string | null }).holder === holder; steps++) {
      const { round, capturing } = trace.snapshot.context as { round: number; capturing: string | null };
      const results: Record<string, Case> = {
        detaching: { type: 'volume.detached', round },
        capturing: { type: 'snapshot.complete', round, snapshotId: capturing, sizeBytes: 1 },
        deletingVolume: { type: 'volume.deleted', round, kept: false },
      };
      trace = step(trace, results[String(trace.snapshot.value)]!, diskPromises)!;
    }
    expect((trace.snapshot.context as { holder: string | null }).holder).toBe(waiters[0] ?? null);
    expect(trace.snapshot.value).toBe(waiters.length > 0 ? 'held' : 'idle');
    left++;
  }
  expect(left).toBeGreaterThan(20);
  expect(RESERVATIONS).toHaveLength(3);
});
