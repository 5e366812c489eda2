/** Every event that a reservation understands: a closed union. Users may send only those of {@link UserEvent}. */
import { z } from 'zod';
import { type Stamped, shape } from './authoring.ts';
import { AdoptedStay, Connection, Grant, ReservationRequest, StayPolicy } from './reservation.context.ts';

/** Who sent it: a user name, or null for a trusted queue message without one (it acts as the owner). */
const by = z.string().nullable();
/** Whose reservation it is, if somebody else acts for them: the door has made sure that they may. */
const onBehalf = z.string().optional();
const reason = z.string();
const generation = z.number().int();
/** Number of the extension that is answered. */
const ask = z.number().int();

/** The birth of a reservation. */
export const ReservationSubmitted = shape('reservation.submitted', {
  id: z.string(),
  owner: z.string(),
  request: ReservationRequest,
  policy: StayPolicy,
  /** Put in by the turn itself, from what is served then. */
  domain: z.string().optional(),
});

/** The birth of a reservation whose server runs already: an earlier database knew it, and this one was built anew from what is there. */
export const ReservationAdopted = shape('reservation.adopted', {
  id: z.string(),
  owner: z.string(),
  request: ReservationRequest,
  policy: StayPolicy,
  domain: z.string().nullable(),
  adopted: AdoptedStay,
});

/** GitHub's rule: letters, digits and single hyphens inside, 39 characters at most; an underscore marks a user whom a company manages. */
export const GITHUB_NAME = /^[a-zA-Z0-9](?:[a-zA-Z0-9]|-(?=[a-zA-Z0-9])){0,38}(?:_[a-zA-Z0-9]{1,10})?$/;

/** What a user may ask of a live reservation. The same names at every door: queue, HTTP, CLI. */
export const UserEvent = z.discriminatedUnion('type', [
  shape('cancel', { by, for: onBehalf }),
  shape('extend', { by, for: onBehalf, hours: z.number().positive() }),
  shape('add_user', { by, for: onBehalf, githubUsername: z.string().regex(GITHUB_NAME) }),
  shape('remove_user', { by, for: onBehalf, githubUsername: z.string().regex(GITHUB_NAME) }),
  shape('enable_jupyter', { by, for: onBehalf }),
  shape('disable_jupyter', { by, for: onBehalf }),
]);
export type UserEvent = z.infer<typeof UserEvent>;

/** What other actors answer. */
const ActorEvent = z.discriminatedUnion('type', [
  /** A message to this reservation could not be processed and is a dead letter now. */
  shape('message.lost', { reason }),
  shape('gang.complete', {}),
  /** @param own it does not fit into the gang itself; left out: another member has ended */
  shape('gang.broken', { reason, outcome: z.enum(['failed', 'cancelled']), own: z.boolean().optional() }),
  shape('image.ready', { image: z.string() }),
  shape('image.progress', { detail: z.string() }),
  shape('image.failed', { reason }),
  shape('disk.acquired', {}),
  shape('disk.busy', { holder: z.string() }),
  shape('disk.unavailable', { reason }),
  /** `elsewhere`: its volume cannot be used on the node that was granted. */
  shape('disk.attached', { claim: z.string(), generation, elsewhere: z.boolean().optional() }),
  /** Its volume is in another zone than the node, and is made anew there. */
  shape('disk.moving', { generation, from: z.string(), to: z.string() }),
  shape('disk.attachFailed', { reason, generation }),
  shape('disk.detached', {}),
  shape('disk.progress', { percent: z.number() }),
  /** Data is copied into it, and goes on. */
  shape('disk.filling', { percent: z.number(), generation }),
  shape('disk.captured', { snapshotId: z.string().nullable() }),
  shape('disk.captureFailed', { reason }),
  shape('capacity.granted', { grant: Grant, generation }),
  shape('capacity.refused', { reason, generation }),
  shape('extension.allowed', { ask }),
  shape('extension.refused', { reason, ask }),
]);

/** What the cluster tells of the pod, normalised by the tracker. */
const PodEvent = z.discriminatedUnion('type', [
  shape('pod.unschedulable', { generation, reason }),
  shape('pod.scheduled', { generation, uid: z.string(), node: z.string() }),
  /** It has a node and does not start: what the node says (an image that cannot be pulled, a volume that does not mount). */
  shape('pod.waiting', { generation, uid: z.string(), reason }),
  shape('pod.started', { generation, uid: z.string() }),
  shape('pod.ready', { generation, uid: z.string() }),
  shape('pod.unready', { generation, uid: z.string(), reason }),
  shape('pod.oom', { generation, uid: z.string(), container: z.string(), restarts: z.number().int() }),
  shape('pod.died', { generation, uid: z.string(), reason }),
  /** Positive proof only: the API server answered 404, the watch said DELETED, the node object is deleted, or an operator gave his word. */
  shape('pod.gone', { generation, proof: z.string() }),
  /** Something around the pod, without which nobody can log in, is proven gone while the pod is there. */
  shape('access.missing', { generation, what: z.string() }),
  /** What was published for a server that runs is proven gone: its record in DNS, or the way to its Jupyter. */
  shape('name.missing', { generation }),
  shape('route.missing', { generation }),
]);

/** What the handlers of our own effects report. */
const ResultEvent = z.discriminatedUnion('type', [
  shape('pod.created', { generation, uid: z.string(), name: z.string(), connection: Connection }),
  shape('pod.createFailed', { generation, reason }),
  shape('pod.createDelayed', { generation, reason }),
  shape('pod.terminating', { generation }),
  /** The pod was not deleted by force, because its node does not answer: nothing proves that its containers have ended. */
  shape('pod.unreachable', { generation, node: z.string() }),
  shape('access.updated', { generation }),
  shape('access.failed', { generation, reason }),
  shape('access.removed', { generation }),
  shape('jupyter.started', { generation, url: z.string(), port: z.number().int() }),
  shape('jupyter.stopped', { generation }),
  shape('jupyter.failed', { generation, reason }),
  shape('name.published', { generation, name: z.string() }),
  shape('name.failed', { generation, reason }),
  shape('route.published', { generation, url: z.string() }),
  shape('route.failed', { generation, reason }),
  shape('notice.delivered', { generation }),
  shape('effect.failed', { generation, effect: z.string(), reason }),
]);

/** Names of the deadlines of a reservation. */
export const RESERVATION_DEADLINES = [
  'queued',
  'gang',
  'diskWait',
  'building',
  'attaching',
  'podPending',
  'imagePull',
  'readyProbe',
  'connecting',
  'warn30',
  'warn15',
  'warn5',
  'expiry',
  'graceEnd',
  'extending',
  'stopping',
  'detaching',
  'capturing',
  'releasing',
] as const;
export type ReservationDeadline = (typeof RESERVATION_DEADLINES)[number];

const DeadlineEvent = z.object({ type: z.enum(RESERVATION_DEADLINES.map((name) => `deadline.${name}` as const)) });

export const ReservationEvent = z.union([
  ReservationSubmitted,
  ReservationAdopted,
  UserEvent,
  ActorEvent,
  PodEvent,
  ResultEvent,
  DeadlineEvent,
]);

/** An event as machines see it: stamped by the kernel. */
export type ReservationEvent = Stamped<z.infer<typeof ReservationEvent>>;
/** An event as senders write it. */
export type ReservationMessage = z.infer<typeof ReservationEvent>;
