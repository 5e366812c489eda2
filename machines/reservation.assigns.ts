/** How a reservation's context changes, and the conditions it checks: pure functions of context and event. */
import { scaled, HOUR } from './authoring.ts';
import type { Outcome, ReservationContext } from './reservation.context.ts';
import type { ReservationEvent } from './reservation.events.ts';

type Context = ReservationContext;
type Typed<T extends ReservationEvent['type']> = Extract<ReservationEvent, { type: T }>;
type Change = Partial<Context>;

/** The first cause of an end stays its outcome. */
function ends(context: Context, status: Outcome['status'], reason: string): Change {
  const outcome = context.outcome ?? { status, reason };
  return { outcome, detail: context.outcome === null ? reason : context.detail };
}

const LIMIT_REASONS: Partial<Record<ReservationEvent['type'], string>> = {
  'deadline.queued': 'Waited seven days in the queue without getting capacity',
  'deadline.gang': 'A sibling of this gang did not arrive within five minutes',
  'deadline.building': 'The image was not built within 15 minutes',
  'deadline.attaching': 'The disk could not be attached within 30 minutes',
  'deadline.podPending': 'The pod could not be scheduled within 10 minutes, twice',
  'deadline.imagePull': 'The image was not pulled within 30 minutes',
  'deadline.readyProbe': 'The server did not answer on its SSH port within 5 minutes',
  'deadline.connecting': 'The services of the server could not be made within 30 minutes',
  'deadline.stopping': 'The pod did not stop in time',
};

/** What a reservation tells while its server cannot be created, before the words of whoever refuses. */
const CREATE_FAILS = 'Creating the server fails, and is tried again: ';

/** Why its server cannot be created; null if it can, as far as is known. */
function createTrouble({ detail }: Context): string | null {
  return detail.startsWith(CREATE_FAILS) ? detail.slice(CREATE_FAILS.length) : null;
}

function reasonOf(context: Context, event: ReservationEvent): string {
  if (event.type === 'deadline.diskWait') {
    return `The disk ${context.request.disk?.name} is still in use by reservation ${context.disk.holder ?? 'unknown'} after 30 minutes`;
  }
  if ('reason' in event) return event.reason;
  if (event.type === 'pod.gone') return `The pod was deleted from outside (${event.proof})`;
  const reason = LIMIT_REASONS[event.type] ?? event.type;
  const trouble = createTrouble(context);
  if (trouble !== null) {
    return event.type === 'deadline.podPending'
      ? `The pod could not be created within 10 minutes, twice: ${trouble}`
      : `${reason} (${trouble})`;
  }
  // What the node said last tells more than that time ran out.
  return /^Waiting for (the server|a node): /.test(context.detail) ? `${reason} (${context.detail})` : reason;
}

export const reservationAssigns = {
  cancelled: (context, event) =>
    ends(
      context,
      'cancelled',
      'by' in event && event.by !== null && event.by !== context.owner ? `Cancelled by ${event.by}` : 'Cancelled by its owner',
    ),
  failed: (context, event) => ends(context, 'failed', reasonOf(context, event)),
  failedOnBusyDisk: (context, event) =>
    ends(
      context,
      'failed',
      `The disk ${context.request.disk?.name} is in use by reservation ${(event as Typed<'disk.busy'>).holder}`,
    ),
  expired: (context) => ends(context, 'expired', 'The reserved time is over'),
  gangEnded: (context, event) => {
    const { outcome, reason, own } = event as Typed<'gang.broken'>;
    return ends(context, outcome, own === true ? reason : `Another member of the gang ended: ${reason}`);
  },

  noteLost: (context, event) => ({ lost: [...context.lost, (event as Typed<'message.lost'>).reason].slice(-5) }),
  gangIsComplete: () => ({ gangComplete: true }),
  tellWaitsForGang: () => ({ detail: 'Waiting for the other members of the gang' }),
  tellWaitsForCapacity: (context) => ({
    detail: `Waiting for ${context.policy.slots} × ${context.request.gpuType}`,
  }),
  tellBuilding: () => ({ detail: 'Building the image' }),
  noteProgress: (_context, event) => ({ detail: (event as Typed<'image.progress'>).detail }),
  rememberImage: (_context, event) => ({ image: (event as Typed<'image.ready'>).image, detail: 'The image is ready' }),

  diskAsked: (context) => ({
    disk: { ...context.disk, state: 'asked' as const },
    detail: `Asking for the disk ${context.request.disk?.name}`,
  }),
  diskAcquired: (context) => ({ disk: { ...context.disk, state: 'acquired' as const, holder: null } }),
  diskBusy: (context, event) => {
    const { holder } = event as Typed<'disk.busy'>;
    return {
      disk: { ...context.disk, holder },
      detail: `Waiting for the disk ${context.request.disk?.name}, in use by reservation ${holder}`,
    };
  },
  diskAttaching: (context) => ({
    disk: { ...context.disk, state: 'attaching' as const },
    detail: `Attaching the disk ${context.request.disk?.name}`,
  }),
  noteMoving: (_context, event) => {
    const { from, to } = event as Typed<'disk.moving'>;
    return { detail: `The disk is moved from zone ${from} to zone ${to} by a snapshot, which takes some minutes` };
  },
  diskAttached: (context, event) => ({
    disk: { ...context.disk, state: 'attached' as const, claim: (event as Typed<'disk.attached'>).claim },
  }),
  diskDetached: (context) => ({ disk: { ...context.disk, state: 'detached' as const }, detail: 'Taking a snapshot of the disk' }),
  diskCaptured: (context, event) => ({
    disk: { ...context.disk, state: 'captured' as const, snapshotId: (event as Typed<'disk.captured'>).snapshotId },
  }),
  noteFill: (_context, event) => ({
    detail: `Filling the disk from its snapshot: ${Math.round((event as Typed<'disk.filling'>).percent)} %`,
  }),
  noteCapture: (_context, event) => ({
    detail: `Taking a snapshot of the disk: ${Math.round((event as Typed<'disk.progress'>).percent)} %`,
  }),
  diskGivenUp: (context, event) => {
    const why =
      'reason' in event
        ? event.reason
        : event.type === 'deadline.detaching'
          ? 'the disk did not detach in 10 minutes'
          : 'it was not complete after 6 hours';
    const note = ` (the final snapshot of disk ${context.request.disk?.name} was given up: ${why}; nothing of it was deleted)`;
    return {
      disk: { ...context.disk, state: 'given-up' as const },
      outcome: context.outcome === null ? null : { ...context.outcome, reason: context.outcome.reason + note },
    };
  },

  rememberGrant: (_context, event) => ({ grant: (event as Typed<'capacity.granted'>).grant, detail: 'Capacity granted' }),
  tellCreating: (context) => ({ detail: `Creating the pod on ${context.grant?.node}` }),
  podCreated: (_context, event) => {
    const { uid, name, connection } = event as Typed<'pod.created'>;
    return { pod: { uid, name, ready: false }, connection };
  },
  podKnown: (context, event) => {
    const { uid, name, connection } = event as Typed<'pod.created'>;
    const detail = createTrouble(context) === null ? context.detail : `Starting the server on ${context.grant?.node}`;
    return { pod: { ...context.pod, uid, name }, connection, detail };
  },
  noteCreateTrouble: (_context, event) => ({ detail: `${CREATE_FAILS}${(event as Typed<'pod.createDelayed'>).reason}` }),
  noteUnschedulable: (_context, event) => ({ detail: `Waiting for a node: ${(event as Typed<'pod.unschedulable'>).reason}` }),
  noteWaiting: (_context, event) => ({ detail: `Waiting for the server: ${(event as Typed<'pod.waiting'>).reason}` }),
  tellPulling: () => ({ detail: 'Pulling the image' }),
  tellProbing: () => ({ detail: 'Waiting for the SSH port to answer' }),
  podReady: (context, event) => ({
    pod: { ...context.pod, uid: (event as Typed<'pod.ready'>).uid, ready: true },
    ...(context.launchedAt === null ? {} : { detail: 'Running' }),
  }),
  podUnready: (context, event) => ({
    pod: { ...context.pod, ready: false },
    detail: `The server does not answer: ${(event as Typed<'pod.unready'>).reason}`,
  }),
  noteOom: (context, event) => {
    const { at, container, restarts } = event as Typed<'pod.oom'>;
    return { oom: { count: Math.max(context.oom.count + 1, restarts), lastAt: at, container } };
  },
  tellRetreating: (context, event) => {
    if (event.type === 'disk.attached') {
      return { detail: 'Its disk cannot be used on the node that was granted: back to the queue, for one where it can' };
    }
    const trouble = createTrouble(context);
    const why =
      trouble === null ? 'The pod found no place in 10 minutes' : `The pod could not be created in 10 minutes (${trouble})`;
    return { detail: `${why}: back to the queue` };
  },
  nextLife: (context) => ({
    generation: context.generation + 1,
    grant: null,
    connection: null,
    pod: { uid: null, name: null, ready: false },
  }),

  beginStay: (context, event) => {
    const total = context.request.durationHours;
    return {
      launchedAt: event.at,
      expiresAt: new Date(Date.parse(event.at) + scaled(total * HOUR, event)).toISOString(),
      pod: { ...context.pod, ready: true },
      jupyter: context.request.jupyter ? { ...context.jupyter, state: 'starting' as const } : context.jupyter,
      detail: 'Running',
    };
  },
  noteWarning: (context, event) => {
    const minutes = Number(event.type.slice('deadline.warn'.length));
    return { warned: [...context.warned.filter((given) => given !== minutes), minutes] };
  },
  askedExtension: (context, event) => {
    const { hours, by } = event as Typed<'extend'>;
    return { extension: { hours: (context.extension?.hours ?? 0) + hours, by }, asks: context.asks + 1 };
  },
  refusedByLimit: (context, event) => {
    const { hours } = event as Typed<'extend'>;
    const reason = `${context.totalHours} h are granted and ${hours} h more would pass the limit of ${context.policy.maxTotalHours} h`;
    return { lastExtension: { hours, granted: false, reason, at: event.at } };
  },
  extended: (context, event) => {
    const hours = context.extension?.hours ?? 0;
    const from = context.expiresAt ?? event.at;
    return {
      expiresAt: new Date(Date.parse(from) + scaled(hours * HOUR, event)).toISOString(),
      totalHours: Math.round((context.totalHours + hours) * 3600) / 3600,
      warned: [],
      extension: null,
      lastExtension: { hours, granted: true, reason: null, at: event.at },
      detail: 'Running',
    };
  },
  extensionRefused: (context, event) => ({
    extension: null,
    lastExtension: {
      hours: context.extension?.hours ?? 0,
      granted: false,
      reason: event.type === 'extension.refused' ? event.reason : 'The capacity check gave no answer in 30 seconds',
      at: event.at,
    },
  }),

  userAdded: (context, event) => {
    const { githubUsername } = event as Typed<'add_user'>;
    return {
      users: context.users.includes(githubUsername) ? context.users : [...context.users, githubUsername],
      usersError: null,
    };
  },
  userRemoved: (context, event) => {
    const { githubUsername } = event as Typed<'remove_user'>;
    return { users: context.users.filter((user) => !sameUser(user, githubUsername)), usersError: null };
  },
  usersFailed: (_context, event) => ({ usersError: (event as Typed<'access.failed'>).reason }),
  usersUpdated: () => ({ usersError: null }),
  jupyterStarting: (context) => ({ jupyter: { ...context.jupyter, state: 'starting' as const, error: null } }),
  jupyterOn: (_context, event) => {
    const { url, port } = event as Typed<'jupyter.started'>;
    return { jupyter: { state: 'on' as const, url, port, error: null } };
  },
  jupyterStopping: (context) => ({ jupyter: { ...context.jupyter, state: 'stopping' as const } }),
  jupyterOff: () => ({ jupyter: { state: 'off' as const, url: null, port: null, error: null } }),
  namePublished: (_context, event) => ({ hostname: { name: (event as Typed<'name.published'>).name, problem: null } }),
  nameFailed: (_context, event) => ({ hostname: { name: null, problem: (event as Typed<'name.failed'>).reason } }),
  nameWithdrawn: () => ({ hostname: { name: null, problem: null } }),
  /** Until then, and if that fails, the node's port is the way. */
  routePublished: (context, event) => ({
    jupyter: { ...context.jupyter, url: (event as Typed<'route.published'>).url, error: null },
  }),
  routeFailed: (context, event) => ({ jupyter: { ...context.jupyter, error: (event as Typed<'route.failed'>).reason } }),
  jupyterFailed: (_context, event) => ({
    jupyter: { state: 'failed' as const, url: null, port: null, error: (event as Typed<'jupyter.failed'>).reason },
  }),

  tellStopping: () => ({ detail: 'Stopping the server' }),
  podGone: (context) => ({
    pod: { ...context.pod, ready: false },
    connection: null,
    hostname: { name: null, problem: null },
    jupyter: { state: 'off' as const, url: null, port: null, error: null },
  }),
  noteUnreachable: (_context, event) => ({
    detail: `Waiting for node ${(event as Typed<'pod.unreachable'>).node}, which does not answer, or an operator's word`,
  }),
  tellDetaching: () => ({ detail: 'Detaching the disk' }),
  tellReleasing: () => ({ detail: 'Releasing the name and the routes' }),
  tellEnd: (context) => ({ detail: context.outcome?.reason ?? '' }),
} satisfies Record<string, (context: Context, event: ReservationEvent) => Change>;

/** GitHub's names do not differ by case. */
const sameUser = (one: string, other: string): boolean => one.toLowerCase() === other.toLowerCase();

export const reservationGuards = {
  /** Its server runs already: it was adopted. */
  isServed: (context) => context.launchedAt !== null,
  gangIncomplete: (context) => !context.gangComplete,
  needsImage: (context) => context.request.buildHash !== null && context.image === null,
  needsDisk: (context) => context.request.disk !== null && context.disk.state === 'none',
  hasDisk: (context) => context.request.disk !== null,
  failsOnBusyDisk: (context) => context.request.disk?.onBusy === 'fail',
  /** A result or an observation of this life of the reservation, not of an earlier one. */
  ofThisLife: (context, event) => 'generation' in event && event.generation === context.generation,
  ofThisPod: (context, event) =>
    'generation' in event &&
    event.generation === context.generation &&
    'uid' in event &&
    (context.pod.uid === null || event.uid === context.pod.uid),
  readyAndConnected: (context, event) =>
    'generation' in event &&
    event.generation === context.generation &&
    context.connection !== null &&
    'uid' in event &&
    event.uid === context.pod.uid,
  ofEarlierLife: (context, event) => 'generation' in event && event.generation !== context.generation,
  answersThisAsk: (context, event) => 'ask' in event && event.ask === context.asks,
  firstLifeOnly: (context) => context.generation === 1,
  // By the next life the pool knows where the volume is.
  diskIsElsewhere: (context, event) =>
    event.type === 'disk.attached' &&
    event.elsewhere === true &&
    event.generation === context.generation &&
    context.generation <= 2,
  hadPod: (context) => context.generation > 1,
  // Decimal hours do not add up exactly (24 + 0.1 + 8.3 + 15.6): a second more is no breach of the limit.
  withinTotal: (context, event) =>
    event.type === 'extend' &&
    context.totalHours + (context.extension?.hours ?? 0) + event.hours <= context.policy.maxTotalHours + 1 / 3600,
  diskInUse: (context) => ['attaching', 'attached'].includes(context.disk.state),
  goneWithDisk: (context, event) =>
    'generation' in event && event.generation === context.generation && ['attaching', 'attached'].includes(context.disk.state),
  jupyterIsOff: (context) => ['off', 'failed', 'stopping'].includes(context.jupyter.state),
  jupyterIsOn: (context) => ['on', 'starting', 'failed'].includes(context.jupyter.state),
  /** Jupyter of this life has a way to it. */
  routedJupyter: (context, event) =>
    'generation' in event && event.generation === context.generation && context.jupyter.state === 'on',
  accessRemovalFailed: (context, event) =>
    event.type === 'effect.failed' && event.effect === 'access.remove' && event.generation === context.generation,
  gangCancelled: (_context, event) => event.type === 'gang.broken' && event.outcome === 'cancelled',
  endsExpired: (context) => context.outcome?.status === 'expired',
  endsCancelled: (context) => context.outcome?.status === 'cancelled',
  isNewUser: (context, event) =>
    event.type === 'add_user' && (!context.users.includes(event.githubUsername) || context.usersError !== null),
  isAddedUser: (context, event) =>
    event.type === 'remove_user' && context.users.some((user) => sameUser(user, event.githubUsername)),
} satisfies Record<string, (context: Context, event: ReservationEvent) => boolean>;
