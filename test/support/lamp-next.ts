/** The lamp's next version: it has a colour, which its effect names, and it can be dimmed. What version 1 stored is migrated. */
import { assign, setup } from 'xstate';
import { z } from 'zod';
import type { ActorKind, EffectHandler } from '../../actors/kernel/kind.ts';
import { effect, type Stamp, shape } from '../../machines/authoring.ts';
import type { StoredSnapshot } from '../../persistence/actor-store.ts';
import { LampEvent, lampKind } from './lamp.ts';

const NextEvent = z.discriminatedUnion('type', [...LampEvent.options, shape('dim', {})]);
interface Context {
  name: string;
  presses: number;
  watts: number;
  problem: string | null;
  colour: string;
}

const machine = setup({
  types: {
    context: {} as Context,
    events: {} as z.infer<typeof NextEvent> & Stamp,
    input: {} as { name: string },
  },
  actions: {
    count: assign(({ context }) => ({ presses: context.presses + 1 })),
    keepWatts: assign(({ event }) => (event.type === 'lit' ? { watts: event.watts } : {})),
    light: () => {},
    setOff: () => {},
  },
}).createMachine({
  id: 'lamp',
  version: '2',
  description: 'A lamp with a colour.',
  context: ({ input }: { input: { name: string } | undefined }) => ({
    name: input?.name ?? '',
    presses: 0,
    watts: 0,
    problem: null,
    colour: 'warm',
  }),
  options: { maxIterations: 100 },
  initial: 'off',
  states: {
    off: { description: 'Dark.', on: { press: { target: 'on', actions: 'count' }, dim: 'dimmed', break: 'broken' } },
    on: {
      description: 'Light.',
      entry: ['light', 'setOff'],
      on: {
        press: { target: 'off', actions: 'count' },
        lit: { actions: 'keepWatts' },
        'deadline.off': 'off',
        dim: 'dimmed',
        break: 'broken',
      },
    },
    dimmed: { description: 'Hardly light.', on: { press: { target: 'off', actions: 'count' }, break: 'broken' } },
    broken: { type: 'final', description: 'Gone.' },
  },
});

/** The lamp of version 2 as a kind. */
export function nextLampKind(light: EffectHandler, options: { offAfterMs?: number } = {}): ActorKind {
  const old = lampKind(light, options);
  return {
    ...old,
    version: 2,
    machine,
    events: NextEvent,
    context: z.object({
      name: z.string(),
      presses: z.int(),
      watts: z.number(),
      problem: z.string().nullable(),
      colour: z.string(),
    }),
    intents: (action, context: Context, event, before) =>
      action.type === 'light'
        ? [effect({ type: 'light', presses: context.presses, colour: context.colour })]
        : old.intents(action, context, event, before),
    effects: z.object({ type: z.literal('light'), presses: z.number(), colour: z.string() }),
    migrations: {
      1: (stored: StoredSnapshot) => ({ ...stored, context: { ...(stored.context as object), colour: 'white' } }),
    },
  };
}
