/**
 * The arbiter of one GPU type. Its queue and its ledger are rows, so this chart is small: it is open or paused, and tells what was decided.
 * The planner's decision comes in with the event, so the step stays pure and history can be folded.
 */
import { assign, setup } from 'xstate';
import { address, clear, deadline, type Intent, MINUTE, SECOND, send } from './authoring.ts';
import type { PoolEvent } from './gpu-pool.events.ts';

export interface PoolContext {
  gpuType: string;
  /** Grants made since birth. */
  granted: number;
  lastGrantAt: string | null;
  pausedBecause: string | null;
  /** Maintenance, announced or in force. */
  maintenance: Maintenance | null;
  /** The line is blocked, and `at` was looked at up to the submission `to`: whoever joins behind it changes nothing. Null: not known. */
  planned: { to: string; at: string } | null;
}

export interface Maintenance {
  reason: string;
  by: string;
  /** ISO 8601; the moment of the wish, if it named none. */
  from: string;
  /** null: until somebody ends it. */
  until: string | null;
  /** Users whom it does not concern. */
  allowed: string[];
}

export interface PoolInput {
  gpuType: string;
}

/** How often availability is refreshed even if nothing changes. */
const REFRESH = 5 * MINUTE;

/** Whatever was decided is counted, kept and told. */
const decided = ['countGrants', 'keepPlan', 'tellDecision'] as const;

/** What comes whether or not there is maintenance. */
const always = {
  'capacity.requested': { actions: decided },
  'capacity.withdrawn': { actions: decided },
  'capacity.returned': { actions: decided },
  'extension.asked': { actions: decided },
  'gang.joined': { actions: decided },
  'gang.left': { actions: decided },
  'nodes.changed': { actions: decided },
  'deadline.refresh': { actions: [...decided, 'nextRefresh'] },
} as const;

type Paused = Extract<PoolEvent, { type: 'pool.paused' }>;

/** Maintenance as a wish for it says. */
export function maintenanceOf({ reason, by, from, until, allowed, at }: Paused): Maintenance {
  return { reason, by, from: from ?? at, until: until ?? null, allowed: allowed ?? [] };
}

/** Whether maintenance is only announced by this wish. */
export function beginsLater({ from, at }: Paused): boolean {
  return from !== null && from !== undefined && Date.parse(from) > Date.parse(at);
}

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
    keepPlan: assign(({ event }) => ({ planned: ('decision' in event ? event.decision?.planned : null) ?? null })),
    announce: assign(({ event }) => ({ maintenance: event.type === 'pool.paused' ? maintenanceOf(event) : null })),
    pause: assign(({ context }) => ({ pausedBecause: context.maintenance?.reason ?? 'maintenance' })),
    unpause: assign({ pausedBecause: null }),
    resume: assign({ pausedBecause: null, maintenance: null }),
    tellDecision: () => {},
    nextRefresh: () => {},
    planBegin: () => {},
    clearBegin: () => {},
    planEnd: () => {},
    clearEnd: () => {},
  },
  guards: {
    beginsLater: ({ event }) => event.type === 'pool.paused' && beginsLater(event),
  },
}).createMachine({
  id: 'gpu-pool',
  version: '3',
  description: 'Promises the GPUs of one type: one ledger, one queue, one decision at a time.',
  context: ({ input }: { input: PoolInput | undefined }) => ({
    gpuType: input?.gpuType ?? '',
    granted: 0,
    lastGrantAt: null,
    pausedBecause: null,
    maintenance: null,
    planned: null,
  }),
  options: { maxIterations: 100 },
  initial: 'open',
  states: {
    open: {
      description: 'Grants capacity in the order of submission, as far as nodes fit.',
      tags: ['resting'],
      entry: 'nextRefresh',
      exit: 'clearBegin',
      on: {
        ...always,
        'pool.paused': [
          { guard: 'beginsLater', actions: ['announce', 'planBegin', ...decided] },
          { target: 'paused', actions: ['announce', 'pause', ...decided] },
        ],
        'deadline.maintenanceBegins': { target: 'paused', actions: ['pause', ...decided] },
        'pool.resumed': { actions: ['resume', 'clearBegin', ...decided] },
      },
    },
    paused: {
      description: 'Under maintenance: takes requests and returns, and grants nothing but to those whom it does not concern.',
      tags: ['resting'],
      entry: ['nextRefresh', 'planEnd'],
      exit: 'clearEnd',
      on: {
        ...always,
        'pool.paused': [
          { guard: 'beginsLater', target: 'open', actions: ['announce', 'unpause', 'planBegin', ...decided] },
          { target: 'paused', reenter: true, actions: ['announce', 'pause', ...decided] },
        ],
        'deadline.maintenanceEnds': { target: 'open', actions: ['resume', ...decided] },
        'pool.resumed': { target: 'open', actions: ['resume', ...decided] },
      },
    },
  },
});

/** The intents behind an action of the pool. The pool has no effects: all it does is rows and messages. */
export function intentsOfPool(action: { type: string }, context: PoolContext, event: PoolEvent): Intent<never>[] {
  switch (action.type) {
    case 'planBegin':
      return context.maintenance === null ? [] : [deadline('maintenanceBegins', context.maintenance.from)];
    case 'clearBegin':
      return clear('maintenanceBegins');
    case 'planEnd':
      return endOf(context.maintenance, event);
    case 'clearEnd':
      return clear('maintenanceEnds');
    case 'nextRefresh':
      return [deadline('refresh', new Date(Date.parse(event.at) + REFRESH).toISOString())];
    case 'tellDecision':
      return tellDecision(event);
    default:
      throw new Error(`gpu-pool: the action ${action.type} has no meaning`);
  }
}

/** An end that is past already comes at once, and not never. */
function endOf(maintenance: Maintenance | null, { at }: PoolEvent): Intent<never>[] {
  const until = maintenance?.until ?? null;
  if (until === null) return [];
  const soon = new Date(Date.parse(at) + SECOND).toISOString();
  return [deadline('maintenanceEnds', Date.parse(until) > Date.parse(soon) ? until : soon)];
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
