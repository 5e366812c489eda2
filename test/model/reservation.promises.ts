/** The promises of a reservation, checked at every step of every path. */
import { isDeepStrictEqual } from 'node:util';
import type { Intent } from '../../machines/authoring.ts';
import { ReservationContext } from '../../machines/reservation.context.ts';
import { type Limit, LIMITS } from '../../machines/reservation.effects.ts';
import { promise, type Promises, type Step, type Trace } from './drive.ts';
import { statePath } from './graph.ts';

export interface ReservationMemory {
  /** The request stands in the pool's queue. */
  asked: boolean;
  /** Life whose slots are held, or null. */
  held: number | null;
  /** Any grant was ever seen. */
  everGranted: boolean;
  /** A pod of this life may exist. */
  pod: boolean;
  diskAsked: boolean;
  diskLeft: number;
  imageAsked: boolean;
  gangJoined: boolean;
  gangLeft: number;
  namesFreed: number;
  /** What was published and not withdrawn since. */
  published: ReadonlySet<string>;
  visited: ReadonlySet<string>;
  outcome: ReservationContext['outcome'];
  /** State to which a refused extension must return. */
  askedFrom: string | null;
}

const START: ReservationMemory = {
  asked: false,
  held: null,
  everGranted: false,
  pod: false,
  diskAsked: false,
  diskLeft: 0,
  imageAsked: false,
  gangJoined: false,
  gangLeft: 0,
  namesFreed: 0,
  published: new Set(),
  visited: new Set(),
  outcome: null,
  askedFrom: null,
};

const MINUTE = 60_000;
/** The time limits as they were settled, written down a second time. */
const SETTLED: Record<string, [Limit, milliseconds: number]> = {
  queued: ['queued', 7 * 24 * 60 * MINUTE],
  'queued.gang': ['gang', 5 * MINUTE],
  'queued.disk': ['diskWait', 30 * MINUTE],
  building: ['building', 15 * MINUTE],
  'provisioning.attaching': ['attaching', 30 * MINUTE],
  'provisioning.creating': ['podPending', 10 * MINUTE],
  'provisioning.pulling': ['imagePull', 30 * MINUTE],
  'provisioning.probing': ['readyProbe', 5 * MINUTE],
  'provisioning.connecting': ['connecting', 30 * MINUTE],
  'provisioning.retreating': ['stopping', 2 * MINUTE],
  extending: ['extending', 0.5 * MINUTE],
  'snapshotting.stopping': ['stopping', 2 * MINUTE],
  'snapshotting.detaching': ['detaching', 10 * MINUTE],
  'snapshotting.capturing': ['capturing', 6 * 60 * MINUTE],
  'snapshotting.releasing': ['releasing', 5 * MINUTE],
};

const within = (path: string, prefix: string) => path === prefix || path.startsWith(`${prefix}.`);
const LIVE = ['queued', 'building', 'provisioning', 'running', 'extending', 'snapshotting'];

function check(memory: ReservationMemory, step: Step, trace: Trace<ReservationMemory>): ReservationMemory {
  const path = statePath(step.after.value);
  const context = step.after.context as ReservationContext;
  if (step.event.type === 'reservation.adopted') memory = adopted(memory, context);
  const next = { ...memory, visited: new Set([...memory.visited, path]) };
  promise(ReservationContext.safeParse(context).success, 'the context does not fit its schema');
  grants(next, step);
  for (const intent of step.intents) receive(next, intent, step);
  slots(next, step, path, context);
  limits(step, path);
  stay(step, path, context);
  outcomes(next, memory, step, context);
  extension(next, step, path, context);
  if (step.after.status === 'active') {
    promise(LIVE.some((state) => within(path, state)) && step.after.hasTag('live'), `${path} is live and not tagged so`);
    for (const by of ['ada', null])
      promise(step.after.can({ type: 'cancel', by, at: trace.at }), `cancel is not accepted in ${path}`);
  } else ended(next, path, context);
  return next;
}

/** It has what it was given in an earlier database. */
function adopted(memory: ReservationMemory, { generation, request }: ReservationContext): ReservationMemory {
  const given = { held: generation, everGranted: true, pod: true, gangJoined: request.gang !== null };
  return { ...memory, ...given, diskAsked: request.disk !== null };
}

function grants(memory: ReservationMemory, { event, before, after }: Step): void {
  if (event.type !== 'capacity.granted' || before === null || after === before || !after.matches('provisioning')) return;
  promise(memory.asked, 'a grant is accepted that was not asked for');
  Object.assign(memory, { asked: false, held: event['generation'], everGranted: true });
}

/** What is published of a server is published while it is usable, and under a domain only. */
function publishing(memory: ReservationMemory, type: string, { domain, launchedAt }: ReservationContext): void {
  const [what, verb] = type.split('.');
  if (what !== 'name' && what !== 'route') return;
  promise(domain !== null && launchedAt !== null, `${type} of a server that was never usable, or has no domain`);
  const others = [...memory.published].filter((other) => other !== what);
  memory.published = new Set(verb === 'publish' ? [...others, what] : others);
}

function receive(memory: ReservationMemory, intent: Intent, { event, after }: Step): void {
  if (intent.do === 'effect') {
    if (intent.effect.type === 'pod.create') memory.pod = true;
    promise(intent.effect.type !== 'pod.create' || memory.held !== null, 'a pod is created without slots');
    publishing(memory, intent.effect.type, after.context as ReservationContext);
  }
  if (intent.do === 'record' && intent.entry.type === 'name.free') memory.namesFreed++;
  if (intent.do !== 'send') return;
  const sent = intent.event as { type: string; generation?: number };
  switch (sent.type) {
    case 'capacity.requested':
      promise(!memory.asked && memory.held === null, 'capacity is asked for twice');
      memory.asked = true;
      break;
    case 'capacity.returned':
      promise(event.type === 'pod.gone', `slots are returned on ${event.type}, without proof that the pod is gone`);
      promise(
        memory.held === sent.generation,
        `slots of life ${sent.generation} are returned, those of life ${memory.held} are held`,
      );
      Object.assign(memory, { held: null, pod: false });
      break;
    case 'capacity.withdrawn':
      promise(memory.held === null, 'slots that a pod may use are withdrawn');
      memory.asked = false;
      break;
    case 'disk.acquire':
      promise(!memory.diskAsked, 'the disk is asked for twice');
      memory.diskAsked = true;
      break;
    case 'disk.release':
    case 'disk.detach':
      if (memory.diskAsked) memory.diskLeft++;
      break;
    case 'image.requested':
      memory.imageAsked = true;
      break;
    case 'image.withdrawn':
      memory.imageAsked = false;
      break;
    case 'gang.joined':
      promise('owner' in sent && 'index' in sent, 'it joins a gang of nobody, or nowhere in it');
      memory.gangJoined = true;
      break;
    case 'gang.left':
      memory.gangLeft++;
      break;
    case 'disk.attach':
    case 'extension.asked':
      promise(memory.held !== null, `${sent.type} without slots`);
      break;
    default:
      throw new Error(`an unknown message: ${sent.type}`);
  }
}

function slots(memory: ReservationMemory, { after }: Step, path: string, context: ReservationContext): void {
  const holds = after.hasTag('holds-slots');
  promise(
    holds === (memory.held !== null),
    `${path} is ${holds ? '' : 'not '}tagged holds-slots, and life ${memory.held} holds slots`,
  );
  if (memory.held !== null) promise(memory.held === context.generation, 'slots of another life are held');
  for (const late of ['detaching', 'capturing', 'releasing'])
    if (path === `snapshotting.${late}`) promise(memory.held === null && !memory.pod, `${path} holds GPUs or a pod`);
  if (within(path, 'running') || within(path, 'extending'))
    promise(memory.published.has('name') === (context.domain !== null), `${path} without its name, or with one of no domain`);
  if (within(path, 'snapshotting')) promise(memory.published.size === 0, `${path} is still published`);
}

/** Each limit runs from the entry of its state, and from there only, but for those that what goes on sets anew. */
function limits({ before, after, event, intents, taken }: Step, path: string): void {
  const from = before === null ? '' : statePath(before.value);
  for (const [state, [limit, milliseconds]] of Object.entries(SETTLED)) {
    promise(LIMITS[limit] === milliseconds, `the limit ${limit} is ${LIMITS[limit]} ms`);
    if (after.status !== 'active' || !within(path, state)) continue;
    const set = intents.filter((intent) => intent.do === 'deadline' && intent.name === limit);
    const forced = event.type === 'deadline.stopping' && limit === 'stopping';
    const goesOn = event.type === 'disk.filling' && event.generation === after.context.generation && limit === 'attaching';
    // The way through building leaves the queue and comes back to it: a new entry.
    const entered =
      !within(from, state) ||
      forced ||
      goesOn ||
      (state === 'queued' && taken.some((name) => name.includes('#reservation.building')));
    if (!entered) promise(set.length === 0, `${limit} is set anew without entering ${state}`);
    else {
      const due = new Date(Date.parse(event.at) + milliseconds).toISOString();
      promise(
        set.length === 1 && set[0]!.do === 'deadline' && set[0]!.at === due,
        `${limit} does not run from the entry of ${state}`,
      );
    }
  }
}

/** Expiry and warnings stand while the server is up, at their times, and never otherwise. */
function stay(step: Step, path: string, context: ReservationContext): void {
  const { event, intents } = step;
  const warnings = intents.filter((intent) => intent.do === 'deadline' && intent.name.startsWith('warn'));
  for (const warning of warnings) {
    if (warning.do !== 'deadline') continue;
    const minutes = Number(warning.name.slice('warn'.length));
    promise([30, 15, 5].includes(minutes) && warning.at > event.at, `the warning ${warning.name} lies in the past`);
    promise(Date.parse(context.expiresAt!) - Date.parse(warning.at) === minutes * MINUTE, `${warning.name} is at the wrong time`);
  }
  const expiry = intents.find((intent) => intent.do === 'deadline' && intent.name === 'expiry');
  if (expiry?.do === 'deadline') {
    promise(within(path, 'running'), `the expiry is set in ${path}`);
    promise(expiry.at === context.expiresAt, 'the expiry is not at the end of the stay');
    const expected = [30, 15, 5].filter((minutes) => Date.parse(expiry.at) - minutes * MINUTE > Date.parse(event.at));
    promise(warnings.length === expected.length, `${warnings.length} warnings are set instead of ${expected.length}`);
  }
  if (context.launchedAt !== null && step.before?.context.launchedAt === null)
    promise(
      Date.parse(context.expiresAt!) - Date.parse(event.at) === context.request.durationHours * 60 * MINUTE,
      'the stay does not begin when the server is usable',
    );
}

function outcomes(
  next: ReservationMemory,
  memory: ReservationMemory,
  { event, before }: Step,
  context: ReservationContext,
): void {
  const first = memory.outcome;
  if (first !== null) {
    promise(context.outcome?.status === first.status, `the outcome ${first.status} became ${context.outcome?.status}`);
    promise(context.outcome!.reason.startsWith(first.reason), 'the reason of the first cause is lost');
  } else if (event.type === 'cancel' && before !== null)
    promise(context.outcome?.status === 'cancelled', 'a cancel is not the outcome');
  else if (context.outcome !== null) promise(context.outcome.reason.length > 3, 'an end gives no reason');
  next.outcome = context.outcome;
}

/** An extension ends exactly where running was, and says why it was refused. */
function extension(memory: ReservationMemory, { event, before }: Step, path: string, context: ReservationContext): void {
  const from = before === null ? '' : statePath(before.value);
  if (within(path, 'extending') && !within(from, 'extending')) memory.askedFrom = from.slice('running.'.length);
  if (within(path, 'extending') && event.type === 'deadline.expiry') memory.askedFrom = 'grace';
  if (!within(from, 'extending') || !within(path, 'running')) return;
  const last = context.lastExtension;
  promise(context.extension === null && last !== null && last.at === event.at, 'an extension ends without a record');
  const granted = event.type === 'extension.allowed';
  promise(
    path === (granted ? 'running.serving' : `running.${memory.askedFrom}`),
    `an extension asked for in ${memory.askedFrom} ends in ${path}`,
  );
  promise(last!.granted === granted && (granted || (last!.reason ?? '').length > 3), 'a refusal gives no reason');
  const before_ = (before!.context as ReservationContext).expiresAt;
  if (!granted) promise(isDeepStrictEqual(before_, context.expiresAt), 'a refusal moves the expiry');
}

function ended(memory: ReservationMemory, path: string, context: ReservationContext): void {
  promise(memory.outcome?.status === path, `it ends as ${path} with the outcome ${memory.outcome?.status}`);
  promise(memory.held === null && !memory.asked, 'it ends, and its slots or its place in the queue are not given back');
  promise(!memory.pod, 'it ends, and its pod may be left');
  promise(memory.published.size === 0, `it ends, and its ${[...memory.published].join(' and ')} is not withdrawn`);
  promise(memory.namesFreed === 1, `its name is freed ${memory.namesFreed} times`);
  promise(memory.diskLeft === (memory.diskAsked ? 1 : 0), `its disk is left ${memory.diskLeft} times`);
  promise(!memory.imageAsked || context.image !== null, 'it ends, and still waits for an image');
  promise(memory.gangLeft === (context.request.gang === null ? 0 : 1), `its gang is left ${memory.gangLeft} times`);
  if (!memory.everGranted) return;
  const passed = [...memory.visited].some((state) => state.startsWith('snapshotting.'));
  promise(passed, 'it had a pod, and ends without snapshotting');
  if (context.disk.state === 'attached' || context.disk.state === 'attaching' || context.disk.state === 'detached')
    promise(false, `it ends, and its disk is ${context.disk.state}`);
  if (context.disk.state === 'given-up')
    promise(
      /given up: .+nothing of it was deleted/.test(context.outcome?.reason ?? ''),
      'a snapshot was given up without a word',
    );
  if (context.disk.state === 'captured') promise(memory.visited.has('snapshotting.capturing'), 'a snapshot without capturing');
}

export const reservationPromises: Promises<ReservationMemory> = { start: START, check };
