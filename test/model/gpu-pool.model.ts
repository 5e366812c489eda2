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

/** A time that is always to come, and one that comes after it. */
const [LATER, LAST] = ['2126-01-01T00:00:00.000Z', '2127-01-01T00:00:00.000Z'];

/** Under maintenance its planner grants nothing but to those whom it does not concern: that is part of what may happen. */
function events(snapshot: AnyMachineSnapshot): Case[] {
  const { maintenance } = snapshot.context as PoolContext;
  const paused = snapshot.value === 'paused' && maintenance?.allowed.length === 0;
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
    { type: 'pool.paused', reason: 'new drivers', by: 'ops', decision: NOTHING },
    { type: 'pool.paused', reason: 'new nodes', by: 'ops', from: LATER, until: LAST, allowed: [], decision: NOTHING },
    { type: 'pool.paused', reason: 'new racks', by: 'ops', from: null, until: LAST, allowed: ['ops'], decision: NOTHING },
    ...(snapshot.value === 'open' && maintenance !== null ? [{ type: 'deadline.maintenanceBegins', decision: NOTHING }] : []),
    ...(snapshot.value === 'paused' && maintenance?.until ? [{ type: 'deadline.maintenanceEnds', decision: GRANTS }] : []),
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
  if (path === 'paused' && context.maintenance?.allowed.length === 0)
    promise(!told.some((message) => message.endsWith('granted')), 'a pool under maintenance grants to those whom it concerns');
  promise((path === 'paused') === (context.pausedBecause !== null), 'it is paused, or says so, but not both');
  promise(path === 'open' || context.maintenance !== null, 'it is paused, and nobody knows what for');
  maintained(context, path, event, before);
  if (before === null || event.type === 'deadline.refresh')
    promise(
      intents.some((intent) => intent.do === 'deadline' && intent.name === 'refresh'),
      'no refresh will come',
    );
  return { granted };
}

/** Maintenance begins when it was announced for, ends when it was to end, and is forgotten then. */
function maintained({ maintenance }: PoolContext, path: string, event: Case & { at: string }, before: Step['before']): void {
  if (event.type === 'pool.paused') {
    const later = typeof event['from'] === 'string' && event['from'] > event.at;
    promise((path === 'open') === later, 'maintenance does not begin when it was asked for');
    promise(maintenance?.reason === event['reason'], 'another maintenance is meant');
  } else if (event.type === 'pool.resumed' || (event.type === 'deadline.maintenanceEnds' && before?.value === 'paused'))
    promise(path === 'open' && maintenance === null, 'maintenance is over, and goes on');
  else if (event.type === 'deadline.maintenanceBegins' && before?.value === 'open')
    promise(path === 'paused', 'maintenance that was announced does not begin');
  else promise(path === (before === null ? 'open' : statePath(before.value)), `maintenance changes by ${event.type}`);
}

export const poolPromises: Promises<PoolMemory> = { start: { granted: 0 }, check };

export const poolModel: Model<PoolMemory> = {
  kind: KINDS['gpu-pool'],
  scenarios: POOL_SCENARIOS,
  key: (snapshot) => {
    const { granted, maintenance } = snapshot.context as PoolContext;
    return JSON.stringify([snapshot.value, granted > 0, maintenance === null ? null : [maintenance.reason, maintenance.until]]);
  },
  promises: poolPromises,
  atVertex: ({ deadlines, snapshot }) => {
    const { maintenance } = snapshot.context as PoolContext;
    promise(deadlines.has('refresh'), 'no refresh stands');
    promise(
      deadlines.has('maintenanceBegins') === (snapshot.value === 'open' && maintenance !== null),
      'maintenance is announced, and will not begin, or begins twice',
    );
    promise(
      deadlines.has('maintenanceEnds') === (snapshot.value === 'paused' && maintenance?.until != null),
      'maintenance is to end, and will not, or ends twice',
    );
  },
};
