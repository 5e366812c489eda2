/** What a reservation asks of the world: its effects, and the pure table from named action to intent. */
import { z } from 'zod';
import {
  address,
  clear,
  DAY,
  deadline,
  effect,
  HOUR,
  type Intent,
  later,
  limitEnd,
  MINUTE,
  SECOND,
  scaled,
  send,
  shape,
} from './authoring.ts';
import type { DiskMessage } from './disk.events.ts';
import type { PoolMessage } from './gpu-pool.events.ts';
import type { ImageMessage } from './image.events.ts';
import type { ReservationContext } from './reservation.context.ts';
import { Grant } from './reservation.context.ts';
import type { ReservationDeadline, ReservationEvent } from './reservation.events.ts';

const generation = z.number().int();

/** The closed union of effects of a reservation. Handlers live in actors/reservation/. */
export const ReservationEffect = z.discriminatedUnion('type', [
  /** Create or adopt pod, keys and services of this generation. */
  shape('pod.create', { generation, grant: Grant, claim: z.string().nullable() }),
  /** Delete the pod, or find that it is gone; `force` skips the grace of the containers, on a node that answers or is no more. */
  shape('pod.remove', { generation, force: z.boolean() }),
  /** Bring the keys of the server to the desired list of GitHub users. */
  shape('access.update', { generation, users: z.array(z.string()) }),
  /** Make again what is missing around the pod that runs; the pod itself is never made again. */
  shape('access.restore', { generation, grant: Grant, claim: z.string().nullable() }),
  /** Remove everything around the pod (services, secrets, route) that bears our id. */
  shape('access.remove', { generation }),
  /** Put a notice inside the server. `extended` withdraws the warnings that stand there. */
  shape('notice.post', {
    generation,
    about: z.enum(['warning', 'final', 'extended', 'oom']),
    minutesLeft: z.number().int(),
    endsAt: z.string().nullable(),
    text: z.string(),
  }),
  shape('jupyter.start', { generation }),
  shape('jupyter.stop', { generation }),
  /** Let the name lead to the server, wherever it led before. */
  shape('name.publish', { generation, name: z.string(), domain: z.string(), host: z.string(), port: z.number().int() }),
  /** Let the name lead nowhere. It stays its owner's until that is proven. */
  shape('name.withdraw', { generation }),
  /** Let the name lead to Jupyter through the load balancer, if there is one. */
  shape('route.publish', { generation, name: z.string(), domain: z.string(), node: z.string(), port: z.number().int() }),
  shape('route.withdraw', { generation }),
]);
export type ReservationEffect = z.infer<typeof ReservationEffect>;

/** Rows that a reservation writes in the transaction of its turn. */
export const ReservationRecord = z.discriminatedUnion('type', [shape('name.free', { reservationId: z.string() })]);
export type ReservationRecord = z.infer<typeof ReservationRecord>;

/** Time limits, measured from entry of the state, in milliseconds. Source: docs/lifecycle-limits (the settled questions of the design). */
export const LIMITS = {
  queued: 7 * DAY,
  gang: 5 * MINUTE,
  diskWait: 30 * MINUTE,
  building: 15 * MINUTE,
  attaching: 30 * MINUTE,
  podPending: 10 * MINUTE,
  imagePull: 30 * MINUTE,
  readyProbe: 5 * MINUTE,
  // Nothing is wrong with a server that answers: only our own outage lasts so long.
  connecting: 30 * MINUTE,
  extending: 30 * SECOND,
  stopping: 2 * MINUTE,
  detaching: 10 * MINUTE,
  capturing: 6 * HOUR,
  releasing: 5 * MINUTE,
} as const satisfies Partial<Record<ReservationDeadline, number>>;
export type Limit = keyof typeof LIMITS;

/** Limits that are policy (a promise to people) run on scaled time; the others are technical and keep five real seconds. */
const POLICY_LIMITS: ReadonlySet<Limit> = new Set(['queued']);

/** Minutes before the end at which a warning is posted. */
export const WARNINGS = [30, 15, 5] as const;
/** The notice between expiry and teardown. */
export const GRACE = 120 * SECOND;

const STAY_DEADLINES = ['warn30', 'warn15', 'warn5', 'expiry', 'graceEnd', 'extending'] as const;

type Action = { type: string; params?: unknown };
type Answer = Intent<ReservationEffect>[];

function pool(context: ReservationContext, event: PoolMessage): Answer {
  return [send(address('gpu-pool', context.request.gpuType), event)];
}

function disk(context: ReservationContext, event: DiskMessage): Answer {
  return context.request.disk === null ? [] : [send(address('disk', context.request.disk.id), event)];
}

function image(context: ReservationContext, event: ImageMessage): Answer {
  return context.request.buildHash === null ? [] : [send(address('image', context.request.buildHash), event)];
}

function notice(
  context: ReservationContext,
  about: Extract<ReservationEffect, { type: 'notice.post' }>['about'],
  text: string,
  minutesLeft = 0,
): Answer {
  const { generation, expiresAt } = context;
  return [effect({ type: 'notice.post', generation, about, minutesLeft, endsAt: expiresAt, text }, { lane: 'notice' })];
}

/** The newest wish counts: one that has not begun is dropped, so that toggling never piles up work, and no notice waits behind it. */
function jupyter(context: ReservationContext, type: 'jupyter.start' | 'jupyter.stop'): Answer {
  return [effect<ReservationEffect>({ type, generation: context.generation }, { lane: 'jupyter', replaces: true })];
}

/** A server without a domain has no name in DNS. Nothing waits for it: a server runs as well without. */
function publishName({ generation, request, domain, connection }: ReservationContext): Answer {
  if (domain === null || connection === null) return [];
  const { host, port } = connection;
  return [
    effect<ReservationEffect>(
      { type: 'name.publish', generation, name: request.name, domain, host, port },
      { lane: 'name', replaces: true },
    ),
  ];
}

function publishRoute({ generation, request, domain, connection, jupyter: { port } }: ReservationContext): Answer {
  if (domain === null || connection === null || port === null) return [];
  return [
    effect<ReservationEffect>(
      { type: 'route.publish', generation, name: request.name, domain, node: connection.node, port },
      { lane: 'route', replaces: true },
    ),
  ];
}

function withdraw({ generation, domain }: ReservationContext, lane: 'name' | 'route'): Answer {
  if (domain === null) return [];
  return [effect<ReservationEffect>({ type: `${lane}.withdraw`, generation }, { lane, replaces: true })];
}

/** Deadlines of the stay: the warnings still to come and the expiry. */
function stayDeadlines(context: ReservationContext, event: ReservationEvent): Answer {
  if (context.expiresAt === null) return [];
  const end = Date.parse(context.expiresAt);
  const warnings: Answer = WARNINGS.flatMap((minutes): Answer => {
    const at = end - scaled(minutes * MINUTE, event);
    return at > Date.parse(event.at) ? [deadline(`warn${minutes}`, new Date(at).toISOString())] : clear(`warn${minutes}`);
  });
  return [...warnings, deadline('expiry', context.expiresAt), ...clear('graceEnd')];
}

/** Meaning of each named action that is more than an assignment. */
export const reservationIntents = {
  startLimit: (_context, event, params) => {
    const { limit } = params as { limit: Limit };
    const at = POLICY_LIMITS.has(limit) ? later(event, LIMITS[limit]) : limitEnd(event, LIMITS[limit]);
    return [deadline(limit, at)];
  },
  clearLimit: (_context, _event, params) => clear((params as { limit: Limit }).limit),

  joinGang: (context) =>
    context.request.gang === null
      ? []
      : pool(context, {
          type: 'gang.joined',
          reservationId: context.id,
          owner: context.owner,
          gangId: context.request.gang.id,
          index: context.request.gang.index,
          size: context.request.gang.size,
        }),
  askImage: (context) => image(context, { type: 'image.requested', reservationId: context.id, owner: context.owner }),
  askDisk: (context) => disk(context, { type: 'disk.acquire', reservationId: context.id, owner: context.owner }),
  askCapacity: (context) =>
    pool(context, {
      type: 'capacity.requested',
      reservationId: context.id,
      owner: context.owner,
      generation: context.generation,
      slots: context.policy.slots,
      cpuMillis: context.policy.cpuMillis,
      memoryBytes: context.policy.memoryBytes,
      durationHours: context.request.durationHours,
      nodeLabels: context.request.nodeLabels,
      diskId: context.request.disk?.id ?? null,
      gang: context.request.gang,
      submittedAt: context.submittedAt,
    }),
  attachDisk: (context) =>
    disk(context, {
      type: 'disk.attach',
      reservationId: context.id,
      generation: context.generation,
      node: context.grant?.node ?? '',
      zone: context.grant?.zone ?? null,
    }),
  createPod: (context) =>
    context.grant === null
      ? []
      : [
          effect(
            { type: 'pod.create', generation: context.generation, grant: context.grant, claim: context.disk.claim },
            { lane: 'pod' },
          ),
        ],
  removePod: (context) => [
    effect({ type: 'pod.remove', generation: context.generation, force: false }, { lane: 'pod', replaces: true }),
  ],
  forceRemovePod: (context) => [
    effect({ type: 'pod.remove', generation: context.generation, force: true }, { lane: 'pod', replaces: true }),
  ],
  /** The life whose pod is gone: the context may be in the next life already. */
  returnSlots: (context, event) =>
    pool(context, {
      type: 'capacity.returned',
      reservationId: context.id,
      generation: 'generation' in event ? event.generation : context.generation,
    }),

  startStay: (context, event) => [
    ...stayDeadlines(context, event),
    ...(context.request.jupyter && context.jupyter.state === 'starting' ? jupyter(context, 'jupyter.start') : []),
    ...publishName(context),
  ],
  /** Publishing what stands already changes nothing, and puts it on record. */
  resumeStay: (context, event) => [
    ...stayDeadlines(context, event),
    ...publishName(context),
    ...(context.jupyter.state === 'on' ? publishRoute(context) : []),
  ],
  moveExpiry: (context, event) => [
    ...stayDeadlines(context, event),
    ...notice(context, 'extended', `Extended until ${context.expiresAt}.`),
  ],
  postWarning: (context, event) => {
    const left = context.expiresAt === null ? 0 : (Date.parse(context.expiresAt) - Date.parse(event.at)) * (event.timeScale ?? 1);
    const minutes = Math.max(1, Math.round(left / MINUTE));
    return notice(
      context,
      'warning',
      `This server ends in ${minutes} minutes, at ${context.expiresAt}. Save your work, or extend it.`,
      minutes,
    );
  },
  postFinalNotice: (context) =>
    notice(
      context,
      'final',
      'The reserved time is over: this server is taken down in two minutes. Your disk is saved. An extension is still possible.',
    ),
  postOomNotice: (context) =>
    notice(
      context,
      'oom',
      `A process ran out of memory and was killed (${context.oom.count} so far, last at ${context.oom.lastAt}).`,
    ),
  startGrace: (_context, event) => [deadline('graceEnd', new Date(Date.parse(event.at) + scaled(GRACE, event)).toISOString())],
  askExtension: (context) =>
    pool(context, {
      type: 'extension.asked',
      reservationId: context.id,
      generation: context.generation,
      hours: context.extension?.hours ?? 0,
      expiresAt: context.expiresAt ?? '',
      ask: context.asks,
    }),
  clearStay: () => clear(...STAY_DEADLINES),

  updateAccess: (context) => [
    effect({ type: 'access.update', generation: context.generation, users: context.users }, { lane: 'access', replaces: true }),
  ],
  restoreAccess: (context) =>
    context.grant === null
      ? []
      : [
          effect(
            { type: 'access.restore', generation: context.generation, grant: context.grant, claim: context.disk.claim },
            { lane: 'access' },
          ),
          // Starting what runs does nothing but make again what leads to it.
          ...(context.jupyter.state === 'on' ? jupyter(context, 'jupyter.start') : []),
        ],
  startJupyter: (context) => jupyter(context, 'jupyter.start'),
  stopJupyter: (context) => jupyter(context, 'jupyter.stop'),

  publishName,
  publishRoute,
  withdrawRoute: (context) => withdraw(context, 'route'),
  /** A name that still led to the port of a server that has gone would lead to whoever gets that port next. */
  withdrawNames: (context) => (context.launchedAt === null ? [] : [...withdraw(context, 'name'), ...withdraw(context, 'route')]),

  /** A disk that was acquired and never attached has nothing to save; one that was attached frees itself when its snapshot is complete. */
  releaseDisk: (context) =>
    context.disk.state === 'asked' || context.disk.state === 'acquired'
      ? disk(context, { type: 'disk.release', reservationId: context.id })
      : [],
  detachDisk: (context) => disk(context, { type: 'disk.detach', reservationId: context.id }),
  removeAccess: (context) => [
    effect({ type: 'access.remove', generation: context.generation }, { lane: 'access', replaces: true }),
  ],
  freeName: (context) => [{ do: 'record', entry: { type: 'name.free', reservationId: context.id } satisfies ReservationRecord }],
  withdrawCapacity: (context) =>
    pool(context, { type: 'capacity.withdrawn', reservationId: context.id, reason: context.outcome?.reason ?? 'ended' }),
  /** An end without a pod: give back all that was asked for. Each receiver ignores what it does not know. */
  withdrawAll: (context) => [
    ...pool(context, { type: 'capacity.withdrawn', reservationId: context.id, reason: context.outcome?.reason ?? 'ended' }),
    ...disk(context, { type: 'disk.release', reservationId: context.id }),
    ...image(context, { type: 'image.withdrawn', reservationId: context.id }),
    { do: 'record', entry: { type: 'name.free', reservationId: context.id } satisfies ReservationRecord },
  ],
  tellGang: (context) =>
    context.request.gang === null
      ? []
      : pool(context, {
          type: 'gang.left',
          reservationId: context.id,
          reason: context.outcome?.reason ?? 'ended',
          outcome: context.outcome?.status === 'cancelled' ? 'cancelled' : 'failed',
        }),
} satisfies Record<string, (context: ReservationContext, event: ReservationEvent, params: unknown) => Answer>;

/**
 * The intents behind one action that a step produced.
 * @throws if the action has no meaning: a bug of the machine, found by its tests.
 */
export function intentsOfReservation(action: Action, context: ReservationContext, event: ReservationEvent): Answer {
  const table: Record<string, (context: ReservationContext, event: ReservationEvent, params: unknown) => Answer> =
    reservationIntents;
  const meaning = table[action.type];
  if (meaning === undefined) throw new Error(`reservation: the action ${action.type} has no meaning`);
  return meaning(context, event, action.params);
}
