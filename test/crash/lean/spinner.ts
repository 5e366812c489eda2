/** A kind whose actors keep each other busy for ever: every turn posts the message for the next. It measures what a kernel can do. */
import { assign, setup } from 'xstate';
import { z } from 'zod';
import type { ActorKind } from '../../../actors/kernel/kind.ts';
import { type Stamp, send, shape } from '../../../machines/authoring.ts';

interface Spinner {
  name: string;
  turns: number;
}

export const spinnerMachine = setup({
  types: {
    context: {} as Spinner,
    events: {} as Stamp & { type: 'spinner.made' | 'spin' | 'hold' },
    input: {} as { name: string },
  },
  actions: { count: assign(({ context }) => ({ turns: context.turns + 1 })), again: () => {} },
}).createMachine({
  id: 'spinner',
  version: '1',
  description: 'Spins.',
  context: ({ input }: { input: { name: string } | undefined }) => ({ name: input?.name ?? '', turns: 0 }),
  options: { maxIterations: 100 },
  initial: 'spinning',
  states: {
    spinning: {
      description: 'Each turn asks for the next.',
      entry: 'again',
      on: { spin: { actions: ['count', 'again'] }, hold: 'held' },
    },
    held: { type: 'final', description: 'Stands still.' },
  },
});

export function spinnerKind(): ActorKind {
  return {
    kind: 'spinner',
    version: 1,
    machine: spinnerMachine,
    events: z.discriminatedUnion('type', [shape('spinner.made', { name: z.string() }), shape('spin', {}), shape('hold', {})]),
    birth: 'spinner.made',
    input: (event) => ({ name: event['name'] }),
    intents: (_action, context: Spinner) => [send(`spinner/${context.name}`, { type: 'spin' })],
    effects: null,
    migrations: {},
    context: null,
    handlers: {},
  };
}
