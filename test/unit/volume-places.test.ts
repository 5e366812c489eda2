import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isBound, isIn, nameOfPlace } from '../../actors/gpu-pool/places.ts';
import { type PlanNode, type PlanRequest, plan } from '../../actors/gpu-pool/planner.ts';
import type { VolumePlace } from '../../machines/disk.events.ts';
import { placeOfVolume } from '../../src/providers/kubernetes/volume-place.ts';

const HOST = 'kubernetes.io/hostname';
const ZONE = 'topology.kubernetes.io/zone';
const ZONES: Record<string, string> = { a: 'west', b: 'west', c: 'east', d: 'east' };

const on = (node: string): VolumePlace => ({ anyOf: [{ [HOST]: [node] }], movable: false });
const within = (zone: string, movable = false): VolumePlace => ({ anyOf: [{ [ZONE]: [zone] }], movable });

function node(name: string, free: number, slots = 8): PlanNode {
  const labels = { [HOST]: name, [ZONE]: ZONES[name] ?? 'none' };
  return {
    node: name,
    zone: null,
    slots,
    free: Array.from({ length: free }, (_, slot) => slot),
    cpuMillis: 100,
    memoryBytes: 100,
    labels,
  };
}

function ask(reservationId: string, slots: number, more: Partial<PlanRequest> = {}): PlanRequest {
  return {
    reservationId,
    generation: 1,
    slots,
    cpuMillis: 1,
    memoryBytes: 1,
    nodeLabels: {},
    gang: null,
    durationHours: 1,
    ...more,
  };
}

const granted = (nodes: PlanNode[], line: PlanRequest[]) =>
  Object.fromEntries(plan(nodes, line).grants.map((grant) => [grant.reservationId, grant.node]));

describe('a request whose disk is in one place', () => {
  it('is granted there, where without it the fullest node would be taken', () => {
    expect(granted([node('a', 2), node('b', 8)], [ask('disk', 1, { place: on('b') }), ask('none', 1)])).toEqual({
      disk: 'b',
      none: 'a',
    });
  });

  it('holds back nobody elsewhere, and is not overtaken where it waits', () => {
    const line = [ask('disk', 4, { place: on('a') }), ask('small', 2), ask('there', 1, { place: on('a') }), ask('next', 8)];
    const { grants, waits, blocked } = plan([node('a', 2), node('b', 8)], line);
    expect(grants.map(({ reservationId, node: where }) => [reservationId, where])).toEqual([['small', 'b']]);
    expect(waits.map(({ reservationId }) => reservationId)).toEqual(['disk', 'there', 'next']);
    expect(waits[0]!.because).toBe('Its disk is on node a, where 2 of the 4 asked for are free');
    expect(blocked).toBe(true);
  });

  it('stops the line where nothing else is free, as anybody does', () => {
    const { waits, blocked } = plan([node('a', 2), node('b', 0)], [ask('disk', 4, { place: on('a') }), ask('small', 1)]);
    expect(waits.map(({ reservationId }) => reservationId)).toEqual(['disk']);
    expect(blocked).toBe(true);
  });

  it('keeps nothing if no node of its place could ever serve it, and says so', () => {
    for (const [place, words] of [
      [on('gone'), /on node gone, and no node of this type is there/],
      [on('a'), /no node there is large enough/],
    ] as const) {
      const { grants, waits } = plan([node('a', 2, 4), node('b', 8)], [ask('disk', 8, { place }), ask('one', 1), ask('two', 8)]);
      expect(waits[0]!.because).toMatch(words);
      expect(grants.map((grant) => [grant.reservationId, grant.node])).toEqual([
        ['one', 'a'],
        ['two', 'b'],
      ]);
    }
    const shut = [{ node: 'x', labels: { [HOST]: 'x' } }];
    expect(plan([node('b', 8)], [ask('disk', 1, { place: on('x') })], new Map(), shut).waits[0]!.because).toBe(
      'Its disk is on node x, which takes no new servers now',
    );
  });

  it('prefers the zone of a volume that can be moved, and goes elsewhere rather than wait', () => {
    const near = within('east', true);
    expect(granted([node('a', 1), node('c', 8)], [ask('disk', 1, { place: near })])).toEqual({ disk: 'c' });
    expect(granted([node('a', 1), node('c', 0)], [ask('disk', 1, { place: near })])).toEqual({ disk: 'a' });
  });

  it('as a member of a gang keeps a node for each of the others, or holds back everybody', () => {
    const gang = { id: 'g', size: 2 };
    const line = [ask('first', 8, { gang, place: on('a') }), ask('second', 8, { gang }), ask('other', 8), ask('last', 8)];
    expect(granted([node('a', 7), node('b', 8), node('c', 8), node('d', 0)], line)).toEqual({ other: 'c' });
    expect(granted([node('a', 8), node('b', 7), node('c', 7), node('d', 0)], [...line.slice(0, 2), ask('small', 1)])).toEqual({});
    expect(granted([node('a', 8), node('b', 8), node('c', 8)], line)).toEqual({ first: 'a', second: 'b', other: 'c' });
  });
});

const places = fc.constantFrom<VolumePlace | null>(
  null,
  null,
  on('a'),
  on('c'),
  within('west'),
  within('east', true),
  on('gone'),
);
const lines = fc.array(fc.record({ slots: fc.constantFrom(1, 2, 4, 8), place: places }), { maxLength: 12 });
const fleets = fc.tuple(...Object.keys(ZONES).map((name) => fc.integer({ min: 0, max: 8 }).map((free) => node(name, free))));

it('whoever is in line: nobody is granted elsewhere, nobody overtakes where another waits, and nothing idles that the first could have', () => {
  fc.assert(
    fc.property(fleets, lines, (fleet, wanted) => {
      const before = fleet.map((each) => ({ ...each, free: [...each.free] }));
      const line = wanted.map((each, index) => ask(`r${index}`, each.slots, { place: each.place }));
      const { grants, waits, blocked } = plan(fleet, line);
      const nodeOf = new Map(grants.map((grant) => [grant.reservationId, grant.node]));
      const left = new Map(before.map((each) => [each.node, each.free.length]));
      /** Nodes for which somebody ahead waits. */
      const kept = new Set<string>();
      let stopped = false;
      for (const request of line) {
        const name = nodeOf.get(request.reservationId);
        const there = before.filter((each) => !isBound(request) || isIn(each, request.place));
        if (name !== undefined) {
          expect(stopped || kept.has(name)).toBe(false);
          expect(there.map((each) => each.node)).toContain(name);
          left.set(name, left.get(name)! - request.slots);
          continue;
        }
        if (stopped) continue;
        // It is not served: nowhere is room for it that nobody ahead waits for.
        const open = there.filter((each) => !kept.has(each.node) && left.get(each.node)! >= request.slots);
        const idle = before.some((each) => !kept.has(each.node) && left.get(each.node)! > 0);
        if (idle) expect(open).toEqual([]);
        if (!isBound(request)) stopped = true;
        else for (const each of there) kept.add(each.node);
        if (kept.size > 0 && !before.some((each) => !kept.has(each.node) && left.get(each.node)! > 0)) stopped = true;
        expect(waits.some((wait) => wait.reservationId === request.reservationId)).toBe(true);
      }
      expect(blocked).toBe(stopped);
    }),
    { numRuns: 2_000 },
  );
});

it('the place of a volume is what its node affinity says, as far as that lists values', () => {
  const term = (...matchExpressions: { key: string; operator: string; values?: string[] }[]) => ({ matchExpressions });
  const place = (...nodeSelectorTerms: object[]) =>
    placeOfVolume({ spec: { nodeAffinity: { required: { nodeSelectorTerms } } } } as never);
  expect(placeOfVolume({ spec: {} })).toEqual({ anyOf: [], movable: false });
  expect(place(term({ key: HOST, operator: 'In', values: ['a'] }))).toEqual(on('a'));
  expect(
    place(term({ key: ZONE, operator: 'In', values: ['west', 'east'] }, { key: ZONE, operator: 'In', values: ['east'] })),
  ).toEqual(within('east'));
  // Any node meets the second of two alternatives, as far as we can tell.
  expect(place(term({ key: HOST, operator: 'In', values: ['a'] }), term({ key: 'gpu', operator: 'Exists' })).anyOf).toEqual([]);
  const byName = place({ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n1'] }] });
  expect(isIn({ node: 'n1', labels: {} }, byName)).toBe(true);
  expect(isIn({ node: 'n2', labels: {} }, byName)).toBe(false);
  expect([on('a'), within('west'), byName].map(nameOfPlace)).toEqual(['node a', 'zone west', 'node n1']);
});
