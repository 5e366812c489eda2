/** A tiny kind of actor that has nothing to do with reservations: proof that the kernel knows nothing of them. */
import { assign, setup } from 'xstate';
import { z } from 'zod';
import { deadline, effect, send, type Stamp, shape } from '../../machines/authoring.ts';
import type { ActorKind, EffectHandler } from '../../actors/kernel/kind.ts';

export const LampEvent = z.discriminatedUnion('type', [
  shape('lamp.made', { name: z.string() }),
  shape('press', {}),
  shape('lit', { watts: z.number() }),
  shape('passOn', { to: z.string() }),
  shape('explode', {}),
  shape('break', {}),
  shape('effect.failed', { reason: z.string() }),
  shape('deadline.off', {}),
]);
type Event = z.infer<typeof LampEvent> & Stamp;
interface Context {
  name: string;
  presses: number;
  watts: number;
  problem: string | null;
}

export const lampMachine = setup({
  types: { context: {} as Context, events: {} as Event, input: {} as { name: string } },
  actions: {
    count: assign(({ context }) => ({ presses: context.presses + 1 })),
    keepWatts: assign(({ event }) => (event.type === 'lit' ? { watts: event.watts } : {})),
    keepProblem: assign(({ event }) => (event.type === 'effect.failed' ? { problem: event.reason } : {})),
    light: () => {},
    setOff: () => {},
    passOn: () => {},
    explode: assign(() => {
      throw new Error('bang');
    }),
  },
}).createMachine({
  id: 'lamp',
  version: '1',
  description: 'A lamp.',
  context: ({ input }: { input: { name: string } | undefined }) => ({
    name: input?.name ?? '',
    presses: 0,
    watts: 0,
    problem: null,
  }),
  options: { maxIterations: 100 },
  initial: 'off',
  states: {
    off: {
      description: 'Dark.',
      on: {
        press: { target: 'on', actions: 'count' },
        explode: { actions: 'explode' },
        break: 'broken',
        passOn: { actions: 'passOn' },
      },
    },
    on: {
      description: 'Light.',
      entry: ['light', 'setOff'],
      on: {
        press: { target: 'off', actions: 'count' },
        lit: { actions: 'keepWatts' },
        'effect.failed': { actions: 'keepProblem' },
        'deadline.off': 'off',
        passOn: { actions: 'passOn' },
        break: 'broken',
      },
    },
    broken: { type: 'final', description: 'Gone.' },
  },
});

/** The lamp as a kind; `light` is its one handler, `offAfterMs` its one deadline. */
export function lampKind(light: EffectHandler, options: { offAfterMs?: number; retry?: ActorKind['retry'] } = {}): ActorKind {
  return {
    kind: 'lamp',
    version: 1,
    machine: lampMachine,
    events: LampEvent,
    birth: 'lamp.made',
    input: (event) => ({ name: event['name'] }),
    intents: (action, context: Context, event) => {
      switch (action.type) {
        case 'light':
          return [effect({ type: 'light', presses: context.presses })];
        case 'setOff':
          return [deadline('off', new Date(Date.parse(event.at) + (options.offAfterMs ?? 3_600_000)).toISOString())];
        case 'passOn':
          return [send((event as unknown as { to: `${string}/${string}` }).to, { type: 'press' })];
        default:
          throw new Error(`lamp: ${action.type}`);
      }
    },
    effects: z.object({ type: z.literal('light'), presses: z.number() }),
    migrations: {},
    context: null,
    handlers: { light },
    ...(options.retry === undefined ? {} : { retry: options.retry }),
    effectFailed: (_effect, reason) => ({ type: 'effect.failed', reason }),
  };
}
