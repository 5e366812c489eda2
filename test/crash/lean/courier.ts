/**
 * Two kinds of actors for processes that must start within a blink: couriers who carry parcels one after the other, rest and go home, and
 * the tally to which each of them reports once. Together they use everything the kernel has: effects, deadlines, messages between actors,
 * ends. They know nothing of reservations.
 */
import { assign, setup } from 'xstate';
import { z } from 'zod';
import type { ActorKind, EffectHandler } from '../../../actors/kernel/kind.ts';
import { clear, deadline, effect, send, type Stamp, shape } from '../../../machines/authoring.ts';

export const CourierEvent = z.discriminatedUnion('type', [
  shape('courier.hired', { parcels: z.int(), restMs: z.int() }),
  shape('delivered', { parcel: z.int(), by: z.string() }),
  shape('undeliverable', { reason: z.string() }),
  shape('nudge', {}),
  shape('recall', {}),
  shape('deadline.rest', {}),
]);
interface Courier {
  parcels: number;
  carried: number;
  nudges: number;
  restMs: number;
}

export const courierMachine = setup({
  types: {
    context: {} as Courier,
    events: {} as z.infer<typeof CourierEvent> & Stamp,
    input: {} as { parcels: number; restMs: number },
  },
  actions: {
    count: assign(({ context }) => ({ carried: context.carried + 1 })),
    feel: assign(({ context }) => ({ nudges: context.nudges + 1 })),
    deliver: () => {},
    rest: () => {},
    report: () => {},
  },
  guards: {
    expected: ({ context, event }) => event.type === 'delivered' && event.parcel === context.carried,
    last: ({ context }) => context.carried >= context.parcels,
  },
}).createMachine({
  id: 'courier',
  version: '1',
  description: 'Carries parcels one by one, rests, goes home.',
  context: ({ input }: { input: { parcels: number; restMs: number } | undefined }) => ({
    parcels: input?.parcels ?? 0,
    carried: 0,
    nudges: 0,
    restMs: input?.restMs ?? 0,
  }),
  options: { maxIterations: 100 },
  initial: 'setting',
  on: { nudge: { actions: 'feel' } },
  states: {
    setting: { description: 'Looks for the next parcel.', always: [{ guard: 'last', target: 'resting' }, { target: 'walking' }] },
    walking: {
      description: 'Has a parcel.',
      entry: 'deliver',
      on: { delivered: { guard: 'expected', target: 'setting', actions: 'count' }, undeliverable: 'lost', recall: 'recalled' },
    },
    resting: { description: 'Has none left.', entry: 'rest', on: { 'deadline.rest': 'home', recall: 'recalled' } },
    home: { type: 'final', description: 'Went home by themself.', entry: 'report' },
    recalled: { type: 'final', description: 'Was called home.', entry: 'report' },
    lost: { type: 'final', description: 'Had a parcel that nobody can carry.', entry: 'report' },
  },
});

/** The courier as a kind; `deliver` is its one handler. */
export function courierKind(deliver: EffectHandler): ActorKind {
  return {
    kind: 'courier',
    version: 1,
    machine: courierMachine,
    events: CourierEvent,
    birth: 'courier.hired',
    input: (event) => ({ parcels: event['parcels'], restMs: event['restMs'] }),
    intents: (action, context: Courier, event) => {
      switch (action.type) {
        case 'deliver':
          return [effect({ type: 'deliver', parcel: context.carried })];
        case 'rest':
          return [deadline('rest', new Date(Date.parse(event.at) + context.restMs).toISOString())];
        case 'report':
          return [...clear('rest'), send('tally/all', { type: 'reported' })];
        default:
          throw new Error(`courier: ${action.type}`);
      }
    },
    effects: z.object({ type: z.literal('deliver'), parcel: z.int() }),
    migrations: {},
    context: null,
    handlers: { deliver },
    effectFailed: (_effect, reason) => ({ type: 'undeliverable', reason }) as { type: string },
  };
}

export const tallyMachine = setup({
  types: { context: {} as { reports: number }, events: {} as Stamp & { type: 'tally.opened' | 'reported' } },
  actions: { count: assign(({ context }) => ({ reports: context.reports + 1 })) },
}).createMachine({
  id: 'tally',
  version: '1',
  description: 'Counts who came home.',
  context: () => ({ reports: 0 }),
  options: { maxIterations: 100 },
  initial: 'counting',
  states: { counting: { description: 'Counts.', tags: 'resting', on: { reported: { actions: 'count' } } } },
});

export function tallyKind(): ActorKind {
  return {
    kind: 'tally',
    version: 1,
    machine: tallyMachine,
    events: z.discriminatedUnion('type', [shape('tally.opened', {}), shape('reported', {})]),
    birth: 'tally.opened',
    input: () => undefined,
    intents: (action) => {
      throw new Error(`tally: ${action.type}`);
    },
    effects: null,
    migrations: {},
    context: null,
    handlers: {},
  };
}
