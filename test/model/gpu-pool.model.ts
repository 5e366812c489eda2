/** The model of a GPU pool. What its planner decided comes in with the event. */
import type { AnyMachineSnapshot } from 'xstate';
import { parseAddress } from '../../actors/kernel/kind.ts';
import type { PoolDecision } from '../../machines/gpu-pool.events.ts';
import type { PoolContext } from '../../machines/gpu-pool.machine.ts';
import { KINDS, promise, type Promises, type Step } from './drive.ts';
import type { Model, Scenario } from './explore.ts';
import { type Case, statePath } from './graph.ts';

const NOTHING: PoolDecision = { grants: [], refusals: [], gangComplete: [], gangBroken: [], extension: null };
const GRANTS: PoolDecision = {
  ...NOTHING,
  grants: ['ada', 'bob'].map((reservationId, slot) => ({
    reservationId,
    generation: 1,
    grant: { node: 'h100-1', slots: [slot], zone: null },
  })),
};
const TELLS: PoolDecision = {
  ...NOTHING,
  refusals: [{ reservationId: 'eve', generation: 1, reason: 'no such node' }],
  gangComplete: ['ada', 'bob'],
  gangBroken: [
    { reservationId: 'bob', reason: 'a node failed', outcome: 'failed' },
    { reservationId: 'cid', reason: 'The gang has a node 0 already', outcome: 'failed', own: true },
  ],
};

/** While it is paused, its planner grants nothing: that is part of what may happen. */
function events(snapshot: AnyMachineSnapshot): Case[] {
  const paused = snapshot.value === 'paused';
  const decisions = paused ? [NOTHING, TELLS, undefined] : [NOTHING, GRANTS, TELLS, undefined];
  const extension = { reservationId: 'ada', allowed: !paused, reason: paused ? 'maintenance' : '' };
  return [
    ...decisions.flatMap((decision): Case[] => [
      {
        type: 'capacity.requested',
        reservationId: 'ada',
        owner: 'ada',
        generation: 1,
        slots: 1,
        cpuMillis: 1,
        memoryBytes: 1,
        durationHours: 1,
        nodeLabels: {},
        gang: null,
        submittedAt: '2026-03-02T10:00:00.000Z',
        ...(decision && { decision }),
      },
      { type: 'capacity.withdrawn', reservationId: 'ada', reason: 'cancelled', ...(decision && { decision }) },
      { type: 'capacity.returned', reservationId: 'ada', generation: 1, ...(decision && { decision }) },
      { type: 'gang.joined', reservationId: 'ada', owner: 'ann', gangId: 'g', index: 0, size: 2, ...(decision && { decision }) },
      { type: 'gang.left', reservationId: 'ada', reason: 'cancelled', outcome: 'cancelled', ...(decision && { decision }) },
      { type: 'nodes.changed', nodes: ['h100-1'], ...(decision && { decision }) },
      { type: 'deadline.refresh', ...(decision && { decision }) },
    ]),
    {
      type: 'extension.asked',
      reservationId: 'ada',
      generation: 1,
      hours: 1,
      expiresAt: '',
      ask: 7,
      decision: { ...NOTHING, extension },
    },
    { type: 'pool.paused', reason: 'new drivers', by: 'ops' },
    { type: 'pool.resumed', by: 'ops', decision: GRANTS },
  ];
}

export const POOL_SCENARIOS: Scenario[] = [{ name: 'a pool', birth: { type: 'pool.opened', gpuType: 'h100' }, events }];

export interface PoolMemory {
  granted: number;
}

/** Whatever was decided is told, to whom it concerns, once; a paused pool grants nothing; a refresh always comes. */
function check(memory: PoolMemory, { event, before, after, intents }: Step): PoolMemory {
  const context = after.context as PoolContext;
  const path = statePath(after.value);
  const decision = (event['decision'] as PoolDecision | undefined) ?? NOTHING;
  const told = intents.flatMap((intent) => (intent.do === 'send' ? [`${parseAddress(intent.to).id} ${intent.event.type}`] : []));
  const expected = [
    ...decision.gangComplete.map((id) => `${id} gang.complete`),
    ...decision.grants.map((grant) => `${grant.reservationId} capacity.granted`),
    ...decision.refusals.map((refusal) => `${refusal.reservationId} capacity.refused`),
    ...decision.gangBroken.map((broken) => `${broken.reservationId} gang.broken`),
    ...(decision.extension === null
      ? []
      : [`${decision.extension.reservationId} extension.${decision.extension.allowed ? 'allowed' : 'refused'}`]),
  ];
  promise(JSON.stringify(told) === JSON.stringify(expected), `decided: ${expected.join(', ')}; told: ${told.join(', ')}`);
  for (const intent of intents) {
    if (intent.do === 'send' && intent.event.type.startsWith('extension.'))
      promise((intent.event as Case)['ask'] === event['ask'], 'the answer to an extension names another one');
  }
  const granted = memory.granted + decision.grants.length;
  promise(context.granted === granted, `${granted} grants, ${context.granted} counted`);
  if (path === 'paused' && before?.value === 'paused')
    promise(!told.some((message) => message.endsWith('granted')), 'a paused pool grants');
  promise((path === 'paused') === (context.pausedBecause !== null), 'it is paused, or says so, but not both');
  if (before === null || event.type === 'deadline.refresh')
    promise(
      intents.some((intent) => intent.do === 'deadline' && intent.name === 'refresh'),
      'no refresh will come',
    );
  return { granted };
}

export const poolPromises: Promises<PoolMemory> = { start: { granted: 0 }, check };

export const poolModel: Model<PoolMemory> = {
  kind: KINDS['gpu-pool'],
  scenarios: POOL_SCENARIOS,
  key: (snapshot) => JSON.stringify([snapshot.value, (snapshot.context as PoolContext).granted > 0]),
  promises: poolPromises,
  atVertex: (trace) => promise(trace.deadlines.has('refresh'), 'no refresh stands'),
};
