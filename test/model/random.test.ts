import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AnyMachineSnapshot, initialTransition, transition } from 'xstate';
import type { ActorKind, StampedEvent } from '../../actors/kernel/kind.ts';
import { arbitraryEvent, type Known } from './arbitrary.ts';
import { diskModel, RESERVATIONS } from './disk.model.ts';
import { BrokenPromise, begin, checkRoundTrip, step } from './drive.ts';
import type { Model, Scenario } from './explore.ts';
import { BIRTH, type Case, statePath } from './graph.ts';
import { poolModel } from './gpu-pool.model.ts';
import { imageModel } from './image.model.ts';
import { reservationModel } from './reservation.model.ts';

/** What the births of the model's scenarios say in a field. */
const ofBirths = (model: Model, field: string) =>
  fc.constantFrom(...model.scenarios.flatMap(({ birth }) => (field in birth ? [(birth as Record<string, unknown>)[field]] : [])));
const reservations = reservationModel as unknown as Model;
const small = fc.integer({ min: 0, max: 3 });
const KNOWN: Record<string, Known> = {
  reservation: {
    generation: fc.constantFrom(1, 1, 1, 2, 0),
    uid: fc.constantFrom('pod-1', 'pod-1', 'pod-2'),
    by: fc.constantFrom('ada', null),
    ask: small,
    githubUsername: fc.constantFrom('grace', 'linus'),
    hours: fc.constantFrom(0.1, 1, 12, 40, 1e9),
    request: ofBirths(reservations, 'request'),
    policy: ofBirths(reservations, 'policy'),
    adopted: ofBirths(reservations, 'adopted'),
  },
  disk: {
    round: small,
    reservationId: fc.constantFrom(...RESERVATIONS),
    deleteAt: fc.constant('2026-04-01T10:00:00.000Z'),
    snapshotId: fc.constantFrom('snap-a', 'snap-b'),
  },
  image: { attempt: small, reservationId: fc.constantFrom('ada', 'bob') },
  'gpu-pool': {},
};

const seed = Number(process.env['FC_SEED'] ?? Date.now() % 2 ** 31);
const RUNS = { seed, numRuns: Number(process.env['FC_RUNS'] ?? 40) };
console.info(`random walks: FC_SEED=${seed}`);

const MODELS = [reservationModel, diskModel, imageModel, poolModel] as unknown as Model[];
const WALKS = MODELS.flatMap((model) =>
  model.scenarios.map((scenario): [string, Model, Scenario] => [`${model.kind.kind}: ${scenario.name}`, model, scenario]),
);

/** Any event the union allows; some come twice, some come late. */
function arbitraryWalk(kind: ActorKind): fc.Arbitrary<Case[]> {
  const event = arbitraryEvent(kind.events, KNOWN[kind.kind]!);
  const doubled = fc.tuple(event, fc.boolean()).map(([one, twice]) => (twice ? [one, one] : [one]));
  return fc
    .tuple(fc.array(doubled, { minLength: 5, maxLength: 60, size: 'max' }), fc.array(fc.nat(), { maxLength: 20 }))
    .map(([pieces, swaps]) => {
      const events = pieces.flat();
      for (const at of swaps) {
        const index = at % events.length;
        events.push(...events.splice(index, 1));
      }
      return events;
    });
}

describe.each(WALKS)('%s: any sequence of known events', (_name, model, scenario) => {
  const { kind } = model;

  it('never throws, never leaves an end, and can be cancelled while it lives', () => {
    fc.assert(
      fc.property(arbitraryWalk(kind), (events) => {
        const birth = { ...scenario.birth, at: BIRTH };
        let [snapshot] = initialTransition(kind.machine, kind.input(birth) as never) as [AnyMachineSnapshot, unknown];
        let at = Date.parse(BIRTH);
        for (const unstamped of events) {
          at += 60_000;
          const event: StampedEvent = { ...unstamped, at: new Date(at).toISOString() };
          const [next, actions] = transition(kind.machine, snapshot, event as never) as [AnyMachineSnapshot, { type: string }[]];
          expect(next.status).not.toBe('error');
          if (snapshot.status === 'done') expect(next).toBe(snapshot);
          for (const action of actions) kind.intents(action, next.context, event, snapshot.context);
          snapshot = next;
          if (kind.kind === 'reservation' && snapshot.status === 'active')
            expect(snapshot.can({ type: 'cancel', by: null, at: event.at })).toBe(true);
        }
        checkRoundTrip(kind, snapshot);
        if (kind.context !== null) expect(kind.context.safeParse(snapshot.context).success).toBe(true);
      }),
      RUNS,
    );
  });

  it('keeps every promise when only what can come comes, in any order', () => {
    const choices = fc.array(fc.nat({ max: 10_000 }), { minLength: 10, maxLength: 60, size: 'max' });
    const reached = new Set<string>();
    fc.assert(
      fc.property(choices, (picks) => {
        let trace = begin(kind, scenario.birth, model.promises);
        for (const pick of picks) {
          if (trace.snapshot.status !== 'active') break;
          const possible = scenario.events(trace.snapshot).filter((event) => matters(kind, trace.snapshot, event, pick));
          const event = possible[pick % possible.length];
          if (event === undefined) continue;
          trace = step(trace, event, model.promises) ?? trace;
          reached.add(statePath(trace.snapshot.value));
        }
      }),
      RUNS,
    );
    expect(reached.size).toBeGreaterThan(1);
  });
});

/** Three in four events are ones that the state accepts, so that walks get somewhere. */
function matters(kind: ActorKind, snapshot: AnyMachineSnapshot, event: Case, pick: number): boolean {
  return pick % 4 === 0 || kind.machine.getTransitionData(snapshot, { ...event, at: BIRTH } as never).length > 0;
}

it('a walk that breaks a promise is told with its way', () => {
  const broken: Model = {
    ...MODELS[0]!,
    promises: {
      start: null,
      check: () => {
        throw new BrokenPromise('no');
      },
    } as never,
  };
  expect(() => begin(broken.kind, broken.scenarios[0]!.birth, broken.promises)).toThrow(BrokenPromise);
});
