/** What may happen to a reservation, case by case, and which of its snapshots are one vertex. */
import type { AnyMachineSnapshot } from 'xstate';
import type { ReservationContext, ReservationRequest } from '../../machines/reservation.context.ts';
import type { ReservationDeadline } from '../../machines/reservation.events.ts';
import type { Scenario } from './explore.ts';
import { type Case, statePath } from './graph.ts';

export const RESERVATION_ID = '019cae31-0000-7000-8000-000000000001';
export const DISK_ID = '019cae31-0000-7000-8000-00000000d15c';
export const GANG_ID = '019cae31-0000-7000-8000-00000000ba96';
const OTHER = '019cae31-0000-7000-8000-000000000002';

const REQUEST: ReservationRequest = {
  gpuType: 'h100',
  gpuCount: 2,
  durationHours: 4,
  name: 'brave-otter',
  githubUser: 'ada',
  image: null,
  buildHash: null,
  disk: null,
  jupyter: false,
  preserveEntrypoint: false,
  recreateEnv: false,
  command: null,
  nodeLabels: {},
  gang: null,
  secretsRef: null,
  clientVersion: null,
  extra: { note: 'kept' },
};

/** The birth of a reservation that asks for `wish`, where servers have names in DNS if there is a domain. */
export function submitted(wish: Partial<ReservationRequest>, id = RESERVATION_ID, domain?: string): Case {
  return {
    ...(domain === undefined ? {} : { domain }),
    type: 'reservation.submitted',
    id,
    owner: 'ada',
    request: { ...REQUEST, ...wish },
    policy: { maxTotalHours: 48, cpuMillis: 12_000, memoryBytes: 64e9, slots: 2 },
  };
}

const grant = { node: 'h100-1', slots: [0, 1], zone: 'eu-1a' };
const podOf = (generation: number) => `pod-${generation}`;
const connection = {
  host: '10.0.0.1',
  port: 30_022,
  podName: 'gpu-dev-brave-otter',
  node: 'h100-1',
  sshCommand: 'ssh -p 30022 dev@10.0.0.1',
};

/** The birth of one whose server runs: in its second life, an hour and a half before its end. */
export function adopted(wish: Partial<ReservationRequest>): Case {
  return {
    ...submitted(wish),
    type: 'reservation.adopted',
    domain: 'dev.test',
    adopted: {
      submittedAt: '2026-03-02T07:20:00.000Z',
      generation: 2,
      image: null,
      claim: wish.disk == null ? null : 'claim-1',
      grant,
      pod: { uid: podOf(2), name: 'gpu-dev-brave-otter', ready: true },
      connection,
      launchedAt: '2026-03-02T07:30:00.000Z',
      expiresAt: '2026-03-02T11:30:00.000Z',
      totalHours: 4,
      warned: [],
      jupyter: { state: 'on', url: 'http://10.0.0.1:30023/', port: 30_023 },
      users: ['grace'],
    },
  };
}

/** What users ask. */
const WISHES: Case[] = [
  { type: 'cancel', by: 'ada' },
  { type: 'cancel', by: null },
  { type: 'extend', by: 'ada', hours: 2 },
  { type: 'extend', by: null, hours: 100 },
  { type: 'add_user', by: null, githubUsername: 'grace' },
  { type: 'remove_user', by: null, githubUsername: 'Grace' },
  { type: 'enable_jupyter', by: null },
  { type: 'disable_jupyter', by: null },
];

const BEFORE_CAPACITY: Case[] = [
  { type: 'gang.complete' },
  { type: 'gang.broken', reason: 'its node failed', outcome: 'failed' },
  { type: 'gang.broken', reason: 'cancelled', outcome: 'cancelled' },
  { type: 'gang.broken', reason: 'The gang has a node 0 already', outcome: 'failed', own: true },
  { type: 'image.ready', image: 'images/abc' },
  { type: 'image.progress', detail: 'step 3 of 7' },
  { type: 'image.failed', reason: 'no such package' },
  { type: 'disk.acquired' },
  { type: 'disk.busy', holder: OTHER },
  { type: 'disk.unavailable', reason: 'it is deleted' },
];

/** Events that belong to one life. */
function ofLife(generation: number): Case[] {
  const uid = podOf(generation);
  return [
    { type: 'capacity.granted', grant, generation },
    { type: 'capacity.refused', reason: 'no such node', generation },
    { type: 'disk.attached', claim: 'claim-1', generation },
    { type: 'disk.attached', claim: 'claim-1', generation, elsewhere: true },
    { type: 'disk.moving', generation, from: 'a', to: 'b' },
    { type: 'disk.filling', percent: 41.6, generation },
    { type: 'disk.attachFailed', reason: 'no such zone', generation },
    { type: 'pod.created', generation, uid, name: 'gpu-dev-brave-otter', connection },
    { type: 'pod.createFailed', generation, reason: 'quota' },
    { type: 'pod.createDelayed', generation, reason: 'no quorum' },
    { type: 'pod.unschedulable', generation, reason: 'node is full' },
    { type: 'pod.scheduled', generation, uid, node: 'h100-1' },
    { type: 'pod.waiting', generation, uid, reason: 'ImagePullBackOff' },
    { type: 'pod.started', generation, uid },
    { type: 'pod.ready', generation, uid },
    { type: 'pod.unready', generation, uid, reason: 'probe' },
    { type: 'pod.oom', generation, uid, container: 'main', restarts: 1 },
    { type: 'pod.died', generation, uid, reason: 'Evicted: memory pressure' },
    { type: 'pod.terminating', generation },
    { type: 'pod.unreachable', generation, node: 'h100-1' },
    { type: 'pod.gone', generation, proof: 'the API server answers 404' },
    { type: 'access.missing', generation, what: 'Service gpu-dev-ssh' },
    { type: 'access.updated', generation },
    { type: 'access.failed', generation, reason: 'no such GitHub user' },
    { type: 'access.removed', generation },
    { type: 'jupyter.started', generation, url: 'http://10.0.0.1:30023/?token=x', port: 30_023 },
    { type: 'jupyter.stopped', generation },
    { type: 'jupyter.failed', generation, reason: 'port taken' },
    { type: 'name.published', generation, name: 'brave-otter.dev.test' },
    { type: 'name.failed', generation, reason: 'a record of somebody else stands there' },
    { type: 'name.missing', generation },
    { type: 'route.published', generation, url: 'https://brave-otter.dev.test/' },
    { type: 'route.failed', generation, reason: 'quota' },
    { type: 'route.missing', generation },
    { type: 'notice.delivered', generation },
    { type: 'effect.failed', generation, effect: 'access.remove', reason: 'forbidden' },
    { type: 'effect.failed', generation, effect: 'notice.post', reason: 'no shell' },
  ];
}

const AT_THE_END: Case[] = [
  { type: 'disk.detached' },
  { type: 'disk.progress', percent: 41.6 },
  { type: 'disk.captured', snapshotId: 'snap-1' },
  { type: 'disk.captureFailed', reason: 'the provider refused' },
];

/** The deadlines that can come in a state; whether one stands is for the trace to know. */
const STAY: ReservationDeadline[] = ['warn30', 'warn15', 'warn5'];
const DEADLINES: [prefix: string, names: ReservationDeadline[]][] = [
  ['queued', ['queued']],
  ['queued.gang', ['gang']],
  ['queued.disk', ['diskWait']],
  ['building', ['building']],
  ['provisioning.attaching', ['attaching']],
  ['provisioning.creating', ['podPending']],
  ['provisioning.pulling', ['imagePull']],
  ['provisioning.probing', ['readyProbe']],
  ['provisioning.connecting', ['connecting']],
  ['provisioning.retreating', ['stopping']],
  ['running', STAY],
  ['running.serving', ['expiry']],
  ['running.grace', ['graceEnd']],
  ['extending', [...STAY, 'extending']],
  ['extending.steady', ['expiry']],
  ['extending.grace', ['graceEnd']],
  ['snapshotting.stopping', ['stopping']],
  ['snapshotting.detaching', ['detaching']],
  ['snapshotting.capturing', ['capturing']],
  ['snapshotting.releasing', ['releasing']],
];

const contextOf = (snapshot: AnyMachineSnapshot) => snapshot.context as ReservationContext;

/** Everything that may happen in this life, whether this state expects it or not. */
export function reservationEvents(snapshot: AnyMachineSnapshot): Case[] {
  const { generation, asks } = contextOf(snapshot);
  const path = statePath(snapshot.value);
  const due = DEADLINES.filter(([prefix]) => path === prefix || path.startsWith(`${prefix}.`)).flatMap(([, names]) => names);
  return [
    ...WISHES,
    { type: 'message.lost', reason: 'it was too long' },
    ...BEFORE_CAPACITY,
    ...ofLife(generation),
    ...AT_THE_END,
    { type: 'extension.allowed', ask: asks },
    { type: 'extension.refused', reason: 'the node is to be emptied', ask: asks },
    ...due.map((name) => ({ type: `deadline.${name}` })),
  ];
}

/** Results and observations of an earlier life, of another pod, and answers to an earlier question. */
export function lateEvents(snapshot: AnyMachineSnapshot): Case[] {
  const { generation, asks, pod } = contextOf(snapshot);
  const strangers = ofLife(generation).flatMap((event) =>
    'uid' in event && event.type !== 'pod.created' ? [{ ...event, uid: 'stranger' }] : [],
  );
  return [
    ...ofLife(generation - 1),
    ...(pod.uid === null ? [] : strangers),
    { type: 'extension.allowed', ask: asks - 1 },
    { type: 'extension.refused', reason: 'late', ask: asks - 1 },
  ];
}

/** State, and as much of the context as decides what may follow. */
export function reservationKey(snapshot: AnyMachineSnapshot): string {
  const { generation, disk, pod, connection, outcome, jupyter, users } = contextOf(snapshot);
  const up = snapshot.matches('running') || snapshot.matches('extending');
  const where = Object.values(snapshot.historyValue ?? {}).flatMap((nodes) => nodes.map(({ id }) => id));
  return JSON.stringify([
    snapshot.value,
    generation,
    disk.state,
    pod.uid !== null,
    connection !== null,
    outcome?.status ?? null,
    up ? [jupyter.state, where, users.length] : null,
  ]);
}

const disk = { id: DISK_ID, name: 'default', onBusy: 'wait' } as const;
const JUPYTER = new Set(['enable_jupyter', 'disable_jupyter', 'jupyter.started', 'jupyter.stopped', 'jupyter.failed']);
const USERS = new Set(['add_user', 'remove_user']);
const withoutUsers = (snapshot: AnyMachineSnapshot) => reservationEvents(snapshot).filter(({ type }) => !USERS.has(type));
const withoutJupyter = (snapshot: AnyMachineSnapshot) => reservationEvents(snapshot).filter(({ type }) => !JUPYTER.has(type));

export const RESERVATION_SCENARIOS: Scenario[] = [
  { name: 'a plain server', birth: submitted({ jupyter: true }, RESERVATION_ID, 'dev.test'), events: withoutUsers },
  { name: 'a server that an earlier database knew', birth: adopted({ disk }), events: withoutUsers },
  { name: 'a server with a disk', birth: submitted({ disk }), events: withoutJupyter },
  { name: 'a server that fails on a busy disk', birth: submitted({ disk: { ...disk, onBusy: 'fail' } }), events: withoutJupyter },
  {
    name: 'a member of a gang with an image to build and a disk',
    birth: submitted({ disk, buildHash: 'abc', gang: { id: GANG_ID, index: 1, size: 2 } }),
    events: withoutJupyter,
  },
];
