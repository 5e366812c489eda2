/** A pod as the tracker wants it: pure, from the object of the API. */
import type { V1Container, V1ContainerStatus, V1Pod } from '@kubernetes/client-node';
import type { PodView } from '../../../actors/gpu-pool/ports.ts';
import { LABEL, SERVER_APP, serverOf } from './objects.ts';
import { bytes, millis, quantity } from './quantities.ts';

/** What the requests of a pod add up to. */
type Sum = Pick<PodView, 'cpuMillis' | 'memoryBytes' | 'resources'>;

/** @param namespace the one where dev servers live: labels in any other prove nothing */
export function podView(pod: V1Pod, namespace: string): PodView {
  const { metadata = {}, status = {} } = pod;
  const main = status.containerStatuses ?? [];
  const phase = (status.phase ?? 'Pending') as PodView['phase'];
  const node = pod.spec?.nodeName ?? null;
  const death = deathOf(pod);
  const started = isStarted(pod, main);
  const ready = condition(pod, 'Ready')?.status === 'True';
  const ours = metadata.namespace === namespace && metadata.labels?.[LABEL.app] === SERVER_APP;
  return {
    uid: metadata.uid ?? '',
    name: metadata.name ?? '',
    namespace: metadata.namespace ?? '',
    resourceVersion: metadata.resourceVersion ?? '',
    node,
    server: ours ? serverOf(metadata) : null,
    phase,
    ...requestsOf(pod),
    unschedulable: unschedulable(pod),
    started,
    ready,
    unreadyReason: ready || death !== null ? null : unreadyReason(pod, main),
    terminating: metadata.deletionTimestamp !== undefined && metadata.deletionTimestamp !== null,
    death,
    ooms: [...main, ...(status.initContainerStatuses ?? [])].flatMap(oomsOf),
  };
}

function condition(pod: V1Pod, type: string) {
  return pod.status?.conditions?.find((one) => one.type === type);
}

function unschedulable(pod: V1Pod): string | null {
  const scheduled = condition(pod, 'PodScheduled');
  return scheduled?.status === 'False' ? (scheduled.message ?? scheduled.reason ?? 'no node fits') : null;
}

function isStarted(pod: V1Pod, statuses: V1ContainerStatus[]): boolean {
  const wanted = pod.spec?.containers.length ?? 0;
  const ran = statuses.filter(({ started, state, lastState }) => started === true || state?.running || lastState?.terminated);
  return wanted > 0 && ran.length >= wanted;
}

const STARTING = new Set(['ContainerCreating', 'PodInitializing']);

function unreadyReason(pod: V1Pod, main: V1ContainerStatus[]): string | null {
  for (const { name, state } of [...(pod.status?.initContainerStatuses ?? []), ...main]) {
    const waiting = state?.waiting;
    if (waiting?.reason !== undefined && !STARTING.has(waiting.reason)) {
      return `${name}: ${waiting.reason}${waiting.message ? ` (${waiting.message})` : ''}`;
    }
    const ended = state?.terminated;
    if (ended !== undefined && ended !== null && ended.exitCode !== 0) return `${name}: ended with code ${ended.exitCode}`;
  }
  if (main.some(({ state, ready }) => state?.running && !ready)) return 'the server does not answer its probe yet';
  // Before the containers run, "containers with unready status" says nothing that one does not know.
  return isStarted(pod, main) ? (condition(pod, 'Ready')?.message ?? null) : null;
}

/** Why the control plane takes a pod away, by the reason of its DisruptionTarget condition. */
const DISRUPTIONS: Record<string, string> = {
  PreemptionByScheduler: 'A pod of higher priority took the place of this server',
  DeletionByTaintManager: 'The node of this server was lost or closed',
  EvictionByEvictionAPI: 'This server was evicted from its node (maintenance)',
  DeletionByPodGC: 'The node of this server no longer exists',
  TerminationByKubelet: 'The node shut this server down',
};
/** Why a node gave a pod up, by the reason of its status. */
const FAILURES: Record<string, string> = {
  Evicted: 'The node evicted this server',
  NodeLost: 'The node of this server stopped answering',
  NodeShutdown: 'The node of this server shut down',
  Terminated: 'The node of this server shut down',
  Preempting: 'The node made room for a more important pod',
  DeadlineExceeded: 'The server reached its time limit',
};

function deathOf(pod: V1Pod): string | null {
  const { phase, reason, message } = pod.status ?? {};
  const target = condition(pod, 'DisruptionTarget');
  if (target?.status === 'True') {
    // The kubelet's word stands for a shutdown and for an eviction alike; the status says which.
    const known = target.reason === 'TerminationByKubelet' ? FAILURES[reason ?? ''] : undefined;
    return words(known ?? DISRUPTIONS[target.reason ?? ''] ?? 'This server was evicted', target.message);
  }
  if (reason === 'NodeLost') return words(FAILURES.NodeLost!, message);
  // A container that ends because its pod is deleted did not end by itself. Pods that we delete belong to nobody who still listens.
  const deleted = pod.metadata?.deletionTimestamp !== undefined && pod.metadata.deletionTimestamp !== null;
  if (deleted && (phase === 'Succeeded' || phase === 'Failed') && !reason) return 'The server was deleted from outside';
  if (phase === 'Succeeded') return 'The main process of this server ended by itself';
  if (phase !== 'Failed') return deleted ? null : hopelessStart(pod.status?.containerStatuses ?? []);
  if (reason !== undefined && reason !== '') return words(FAILURES[reason] ?? `The server failed: ${reason}`, message);
  const ended = (pod.status?.containerStatuses ?? []).find(({ state }) => (state?.terminated?.exitCode ?? 0) !== 0);
  const last = ended?.state?.terminated;
  if (last?.reason === 'OOMKilled') return 'The server ran out of memory and was killed';
  return last ? `The main process of this server ended with code ${last.exitCode}` : 'The server failed';
}

/** What a runtime says of an image without the program that is to be run. */
const NO_SUCH_PROGRAM = /no such file or directory|executable file not found/i;
/** The last words of our own start script. */
const CANNOT_START = /^\[gpu-dev\] cannot start: (.+)$/m;
/** After so many tries it is the image, and no package server that was away for a moment. */
const TRIES = 3;

/** A start that will fail for ever by what the image is: said now, and not when the limit ends. */
function hopelessStart(statuses: V1ContainerStatus[]): string | null {
  for (const { state, lastState, restartCount } of statuses) {
    const said = [state?.terminated?.message, lastState?.terminated?.message, state?.waiting?.message].filter(Boolean).join('\n');
    const reasons = [state?.terminated?.reason, lastState?.terminated?.reason, state?.waiting?.reason];
    const refused = reasons.some((reason) => ['StartError', 'ContainerCannotRun', 'RunContainerError'].includes(reason ?? ''));
    if (refused && NO_SUCH_PROGRAM.test(said))
      return 'The image lacks the program that it is to start with: a dev server needs /bin/sh';
    const cause = CANNOT_START.exec(said)?.[1];
    if (cause !== undefined && restartCount >= TRIES) return `The server cannot start: ${cause}`;
  }
  return null;
}

const words = (text: string, message: string | undefined): string => (message ? `${text}: ${message}` : text);

function oomsOf({ name, restartCount, state, lastState }: V1ContainerStatus): PodView['ooms'] {
  const killed = [state?.terminated, lastState?.terminated].find((ended) => ended?.reason === 'OOMKilled');
  return killed ? [{ container: name, restarts: restartCount, at: isoTime(killed.finishedAt) }] : [];
}

/** Lists through the typed client give Dates, watches give text. */
function isoTime(at: Date | string | undefined): string | null {
  return at instanceof Date ? at.toISOString() : (at ?? null);
}

/** Requests of all containers; an init container counts where it needs more than the rest, one that stays (sidecar) always. */
function requestsOf(pod: V1Pod): Sum {
  let running = (pod.spec?.containers ?? []).map(requestsOfContainer).reduce(add, NOTHING);
  let peak = NOTHING;
  for (const init of pod.spec?.initContainers ?? []) {
    const one = requestsOfContainer(init);
    if (init.restartPolicy === 'Always') running = add(running, one);
    else peak = larger(peak, one);
  }
  const overhead = pod.spec?.overhead;
  const sum = larger(running, peak);
  return overhead ? add(sum, amountsOf(overhead)) : sum;
}

const NOTHING: Sum = { cpuMillis: 0, memoryBytes: 0, resources: {} };

function requestsOfContainer({ resources }: V1Container): Sum {
  return amountsOf({ ...resources?.limits, ...resources?.requests });
}

function amountsOf(amounts: Record<string, string>): Sum {
  const devices = Object.entries(amounts).filter(([name]) => name.includes('/'));
  return {
    cpuMillis: millis(amounts.cpu),
    memoryBytes: bytes(amounts.memory),
    resources:
      devices.length === 0 ? NOTHING.resources : Object.fromEntries(devices.map(([name, amount]) => [name, quantity(amount)])),
  };
}

const combine =
  (merge: (left: number, right: number) => number) =>
  (left: Sum, right: Sum): Sum => ({
    cpuMillis: merge(left.cpuMillis, right.cpuMillis),
    memoryBytes: merge(left.memoryBytes, right.memoryBytes),
    resources: Object.fromEntries(
      [...new Set([...Object.keys(left.resources), ...Object.keys(right.resources)])].map((name) => [
        name,
        merge(left.resources[name] ?? 0, right.resources[name] ?? 0),
      ]),
    ),
  });
const add = combine((left, right) => left + right);
const larger = combine(Math.max);
