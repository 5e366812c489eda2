import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Ends } from '../../actors/gpu-pool/ends.ts';
import { forecast } from '../../actors/gpu-pool/forecast.ts';
import { type PlanHolder, type PlanNode, type PlanRequest, plan } from '../../actors/gpu-pool/planner.ts';
import type { VolumePlace } from '../../machines/disk.events.ts';

const HOUR = 1_000;
const NODES = ['a', 'b', 'c'];

function node(name: string, free: number[], cpuMillis = 8): PlanNode {
  return { node: name, zone: null, slots: 40, free, cpuMillis, memoryBytes: 100, labels: { name } };
}

/** The place of a volume that can be used on these nodes alone. */
const at = (...names: string[]): VolumePlace => ({ anyOf: [{ name: names }], movable: false });

/** The same by definition: after each end the whole line is planned anew. */
function playForward(nodes: PlanNode[], holders: readonly PlanHolder[], waiting: readonly PlanRequest[], now: number) {
  const starts = new Map<string, number | null>(waiting.map((request) => [request.reservationId, null]));
  const ends = holders.filter((holder) => holder.endsAt !== null);
  let left = [...waiting];
  for (let time = now; ; ) {
    for (const grant of plan(nodes, left).grants) {
      starts.set(grant.reservationId, time);
      const request = left.find((each) => each.reservationId === grant.reservationId)!;
      ends.push({ ...request, node: grant.node, slots: grant.slots, endsAt: time + request.durationHours * HOUR });
    }
    left = left.filter((request) => starts.get(request.reservationId) === null);
    if (left.length === 0 || ends.length === 0) return starts;
    ends.sort((a, b) => a.endsAt! - b.endsAt!);
    const next = ends.shift()!;
    time = Math.max(time, next.endsAt!);
    const freed = nodes.find((each) => each.node === next.node);
    if (freed === undefined) continue;
    freed.free = [...freed.free, ...next.slots].sort((a, b) => a - b);
    freed.cpuMillis += next.cpuMillis;
    freed.memoryBytes += next.memoryBytes;
  }
}

const requests = fc.array(
  fc.record({
    slots: fc.oneof({ weight: 12, arbitrary: fc.integer({ min: 1, max: 5 }) }, fc.constant(50)),
    cpuMillis: fc.integer({ min: 0, max: 4 }),
    durationHours: fc.integer({ min: 1, max: 4 }),
    nodeLabels: fc.constantFrom<Record<string, string>>({}, {}, {}, { name: 'b' }, { name: 'nowhere' }),
    gang: fc.constantFrom(null, null, null, { id: 'g', size: 2 }, { id: 'h', size: 3 }),
    place: fc.constantFrom(null, null, null, at('a'), at('b'), at('a', 'c'), at('nowhere'), { ...at('c'), movable: true }),
  }),
  { maxLength: 14 },
);
const holding = fc.array(
  fc.record({
    node: fc.constantFrom(...NODES, 'closed'),
    slots: fc.integer({ min: 1, max: 4 }),
    cpuMillis: fc.integer({ min: 0, max: 4 }),
    endsAt: fc.constantFrom(null, 5, 10, 500, 1_000, 1_500, 2_000),
  }),
  { maxLength: 8 },
);

it('a forecast is the plan played forward over every end', () => {
  fc.assert(
    fc.property(requests, holding, (wanted, held) => {
      const waiting = wanted.map((each, index) => ({ ...each, reservationId: `r${index}`, generation: 1, memoryBytes: 1 }));
      let slot = 100;
      const holders = held.map(({ slots, ...each }, index) => ({
        ...each,
        reservationId: `h${index}`,
        slots: Array.from({ length: slots }, () => slot++),
        memoryBytes: 1,
      }));
      const fleet = () =>
        NODES.map((name, index) =>
          node(
            name,
            Array.from({ length: index }, (_, free) => free),
          ),
        );
      expect(forecast(fleet(), holders, waiting, 100, HOUR)).toEqual(playForward(fleet(), holders, waiting, 100));
    }),
    { numRuns: 3_000 },
  );
});

it('ends come soonest first, and those of one moment in the order in which they were added', () => {
  fc.assert(
    fc.property(fc.array(fc.option(fc.integer({ min: 0, max: 9 }), { freq: 3 })), (steps) => {
      const ends = new Ends();
      const expected: { at: number; node: string }[] = [];
      for (const [index, at] of [...steps, ...steps.map(() => null)].entries()) {
        if (at !== null) {
          const node = String(index);
          ends.add(at, { node, slots: [], cpuMillis: 0, memoryBytes: 0 });
          expected.push({ at, node });
          expected.sort((a, b) => a.at - b.at);
          continue;
        }
        const end = ends.take();
        expect(end === null ? undefined : { at: end.at, node: end.freed.node }).toEqual(expected.shift());
      }
    }),
  );
});
