/**
 * The arbiter of one GPU type. Its queue and its ledger are rows, so this chart is small: it is open or paused, and tells what was decided.
 * The planner's decision comes in with the event, so the step stays pure and history can be folded.
 */
import { assign, setup } from 'xstate';
import { address, deadline, type Intent, MINUTE, send } from './authoring.ts';
import type { PoolEvent } from './gpu-pool.events.ts';

export interface PoolContext {
  gpuType: string;
  /** Grants made since birth. */
  granted: number;
  lastGrantAt: string | null;
  pausedBecause: string | null;
}

export interface PoolInput {
  gpuType: string;
}

/** How often availability is refreshed even if nothing changes. */
const REFRESH = 5 * MINUTE;

export const poolMachine = setup({
  types: {
    context: {} as PoolContext,
    events: {} as PoolEvent,
    input: {} as PoolInput,
    tags: {} as 'resting',
  },
  actions: {
    countGrants: assign(({ context, event }) => {
      const grants = 'decision' in event ? (event.decision?.grants.length ?? 0) : 0;
      return grants === 0 ? {} : { granted: context.granted + grants, lastGrantAt: event.at };
    }),
    pause: assign(({ event }) => ({ pausedBecause: event.type === 'pool.paused' ? event.reason : null })),
    resume: assign({ pausedBecause: null }),
    tellDecision: () => {},
    nextRefresh: () => {},
  },
}).createMachine({
  id: 'gpu-pool',
  version: '1',
  description: 'Promises the GPUs of one type: one ledger, one queue, one decision at a time.',
  context: ({ input }: { input: PoolInput | undefined }) => ({
    gpuType: input?.gpuType ?? '',
    granted: 0,
    lastGrantAt: null,
    pausedBecause: null,
  }),
  options: { maxIterations: 100 },
  initial: 'open',
  states: {
    open: {
      description: 'Grants capacity in the order of submission, as far as nodes fit.',
      tags: ['resting'],
      entry: 'nextRefresh',
      on: {
        'capacity.requested': { actions: ['countGrants', 'tellDecision'] },
        'capacity.withdrawn': { actions: ['countGrants', 'tellDecision'] },
        'capacity.returned': { actions: ['countGrants', 'tellDecision'] },
        'extension.asked': { actions: ['countGrants', 'tellDecision'] },
        'gang.joined': { actions: ['countGrants', 'tellDecision'] },
        'gang.left': { actions: ['countGrants', 'tellDecision'] },
        'nodes.changed': { actions: ['countGrants', 'tellDecision'] },
        'deadline.refresh': { actions: ['countGrants', 'tellDecision', 'nextRefresh'] },
        'pool.paused': { target: 'paused', actions: 'pause' },
        'pool.resumed': { actions: ['countGrants', 'tellDecision'] },
      },
    },
    paused: {
      description: 'Takes requests and returns, and grants nothing (maintenance).',
      tags: ['resting'],
      entry: 'nextRefresh',
      on: {
        'capacity.requested': { actions: 'tellDecision' },
        'capacity.withdrawn': { actions: 'tellDecision' },
        'capacity.returned': { actions: 'tellDecision' },
        'extension.asked': { actions: 'tellDecision' },
        'gang.joined': { actions: 'tellDecision' },
        'gang.left': { actions: 'tellDecision' },
        'nodes.changed': { actions: 'tellDecision' },
        'deadline.refresh': { actions: ['tellDecision', 'nextRefresh'] },
        'pool.paused': { actions: 'pause' },
        'pool.resumed': { target: 'open', actions: ['resume', 'countGrants', 'tellDecision'] },
      },
    },
  },
});

/** The intents behind an action of the pool. The pool has no effects: all it does is rows and messages. */
export function intentsOfPool(action: { type: string }, _context: PoolContext, event: PoolEvent): Intent<never>[] {
  switch (action.type) {
    case 'nextRefresh':
      return [deadline('refresh', new Date(Date.parse(event.at) + REFRESH).toISOString())];
    case 'tellDecision':
      return tellDecision(event);
    default:
      throw new Error(`gpu-pool: the action ${action.type} has no meaning`);
  }
}

function tellDecision(event: PoolEvent): Intent<never>[] {
  const decision = 'decision' in event ? event.decision : undefined;
  if (decision === undefined) return [];
  const to = (id: string) => address('reservation', id);
  const ask = event.type === 'extension.asked' ? event.ask : 0;
  return [
    ...decision.gangComplete.map((id) => send(to(id), { type: 'gang.complete' })),
    ...decision.grants.map(({ reservationId, generation, grant }) =>
      send(to(reservationId), { type: 'capacity.granted', grant, generation }),
    ),
    ...decision.refusals.map(({ reservationId, generation, reason }) =>
      send(to(reservationId), { type: 'capacity.refused', reason, generation }),
    ),
    ...decision.gangBroken.map(({ reservationId, reason, outcome, own }) =>
      send(to(reservationId), { type: 'gang.broken', reason, outcome, ...(own === undefined ? {} : { own }) }),
    ),
    ...(decision.extension === null
      ? []
      : [
          decision.extension.allowed
            ? send(to(decision.extension.reservationId), { type: 'extension.allowed', ask })
            : send(to(decision.extension.reservationId), { type: 'extension.refused', reason: decision.extension.reason, ask }),
        ]),
  ];
}
