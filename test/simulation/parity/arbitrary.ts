/** Parameters for every statement, drawn from a small world so that they meet. */
import fc from 'fast-check';

export const RESERVATIONS = ['00000000-0000-4000-a000-000000000001', '00000000-0000-4000-a000-000000000002'] as const;
export const DISKS = ['00000000-0000-4000-b000-000000000001', '00000000-0000-4000-b000-000000000002'] as const;
export const ACTORS = [
  ...RESERVATIONS.map((id) => `reservation/${id}`),
  ...DISKS.map((id) => `disk/${id}`),
  'gpu-pool/t4',
] as const;
export const TOKENS = ['00000000-0000-4000-c000-000000000001', '00000000-0000-4000-c000-000000000002'] as const;
export const NODES = ['n1', 'n2'] as const;

export const of = <T>(...values: readonly T[]) => fc.constantFrom(...values);
export const reservation = of(...RESERVATIONS);
export const disk = of(...DISKS);
export const actor = of(...ACTORS);
export const user = of('ann', 'bob');
export const key = of('k1', 'k2', 'k3', 'deadline:warn5:1', 'effect:e1');
export const node = of(...NODES);
export const gpuType = of('t4', 'a100');
export const small = fc.integer({ min: 0, max: 4 });
export const seconds = of(0, 1, 30, 300);
export const token = of(...TOKENS);
export const text = of('one', 'two');
export const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null });

const START = Date.parse('2026-03-02T08:00:00Z');
/** A time within some minutes. */
export const at = fc.integer({ min: 0, max: 6 }).map((minutes) => new Date(START + minutes * 60_000));
export const iso = at.map((date) => date.toISOString());

/** Some rows, no two of one key, as one list for each column. */
export function columns<R extends unknown[]>(
  row: fc.Arbitrary<R>,
  keyOf: (row: R) => string,
  most = 3,
): fc.Arbitrary<unknown[][]> {
  return fc
    .uniqueArray(row, { minLength: 1, maxLength: most, selector: keyOf })
    .map((rows) => rows[0]!.map((_, index) => rows.map((each) => each[index])));
}

/** Several of a few values, each once. */
export const someOf = <T>(values: readonly T[]) => fc.subarray([...values], { minLength: 1 });

export const mailEvent = of(
  { type: 'deadline.warn5' },
  { type: 'capacity.returned', reservationId: RESERVATIONS[0] },
  { type: 'reservation.submitted', owner: 'ann', request: { gang: { id: 'gang' } } },
).map((event) => JSON.stringify(event));

export const snapshot = fc
  .record({
    status: of('active', 'done'),
    value: of('queued', 'running'),
    context: fc.record({
      generation: of(1, 2),
      pod: fc.record({ uid: maybe(of('u1')) }),
      cloneOf: maybe(disk),
      request: fc.record({ secretsRef: reservation, gpuType }),
    }),
  })
  .map((each) => JSON.stringify(each));
