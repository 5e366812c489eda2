/** Copies between two volumes as Jobs on the cluster: one Job for a disk and a snapshot, looked at until it ends. */
import type { V1Job, V1Pod } from '@kubernetes/client-node';
import type { DiskContents } from '../../../actors/disk/ports.ts';
import { NotYet } from '../../../actors/errors.ts';
import { briefly, type KubernetesClient } from '../kubernetes/client.ts';
import { contentsOfLog } from '../kubernetes/contents.ts';
import { attempt, attemptOrNull, hasStatus } from '../kubernetes/errors.ts';
import { copyJobName, LABEL, MANAGED_BY } from '../kubernetes/objects.ts';
import {
  aroundOf,
  COPY_CONTAINER,
  type CopyId,
  type CopyRequest,
  type CopySettings,
  isBetween,
  isInto,
  isOf,
  jobOf,
} from './copy-job.ts';

export type CopyState =
  /** `begun`: its pod copies, and waits for nothing any more. */
  | { state: 'running'; begun: boolean; percent: number; detail: string; lookAgainMs: number }
  | { state: 'done'; contents?: DiskContents }
  /** `foreign`: the target holds something that is not of this copy. */
  | { state: 'failed'; reason: string; foreign: boolean };

/** Exit codes of the script with which no further try helps: full, or not ours. */
const HOPELESS = { from: 50, to: 59 };
/** Those of them with which the script has left a target alone that is not its own. */
const FOREIGN = { from: 50, to: 52 };
/** A copy is looked at after a tenth of its age, within these bounds, in milliseconds. */
const LOOK = { soonest: 500, latest: 5_000 };
const NEVER_AN_IMAGE = 'InvalidImageName';
const LOG = { tailLines: 5, limitBytes: 4_000 };
/** More than a copy may say of a disk's contents, in base64, and of how far it is. */
const WHOLE_LOG = { limitBytes: 1_500_000 };

export class CopyRuns {
  readonly #client: KubernetesClient;
  readonly #settings: CopySettings;

  constructor(client: KubernetesClient, settings: CopySettings) {
    this.#client = client;
    this.#settings = settings;
  }

  /** Begin the copy, or look at the one that was begun. Done means that the Job has said so, and that it was between exactly these claims. */
  async look(request: CopyRequest): Promise<CopyState> {
    const job = (await this.#read(request)) ?? (await this.#create(request));
    if (!isOf(job, request)) {
      return { state: 'failed', reason: 'A job of that name is on the cluster and is not this copy', foreign: true };
    }
    if (job.metadata?.deletionTimestamp !== undefined) throw new NotYet(LOOK.soonest, 'An earlier copy is being removed');
    if (!isBetween(job, request)) {
      await this.#remove(job);
      throw new NotYet(LOOK.soonest, 'A copy of an earlier volume is being removed');
    }
    if (ended(job, 'Complete')) return { state: 'done', ...(await this.#contents(job, request)) };
    const pod = await this.#pod(job);
    const reason = this.#failure(job, pod);
    if (reason !== null) return { state: 'failed', reason, foreign: within(FOREIGN, endOf(pod)?.exitCode) };
    const age = Date.now() - new Date(job.metadata?.creationTimestamp ?? 0).getTime();
    const lookAgainMs = Math.min(LOOK.latest, Math.max(LOOK.soonest, age / 10));
    if (!hasStarted(pod)) {
      await this.#surround(job, request);
      return { state: 'running', begun: false, percent: 0, detail: waitsFor(pod), lookAgainMs };
    }
    return { state: 'running', begun: true, percent: await this.#percent(pod), detail: 'copying', lookAgainMs };
  }

  /** Whether a copy into exactly this claim has ended well. */
  async isDone(id: CopyId, targetUid: string): Promise<boolean> {
    const job = await this.#read(id);
    return job !== null && isOf(job, id) && isInto(job, targetUid) && ended(job, 'Complete');
  }

  /** Remove the Job of this copy, and with it what is around it. Its claims stay. */
  async remove(id: CopyId): Promise<void> {
    const job = await this.#read(id);
    if (job !== null && isOf(job, id)) await this.#remove(job);
  }

  /** Stop copies of this disk that nobody waits for any more. @returns how many there still are */
  async stopSaves(diskId: string): Promise<number> {
    const { batch, namespace } = this.#client;
    const labelSelector = `${LABEL.managedBy}=${MANAGED_BY},${LABEL.disk}=${diskId},${LABEL.copy}=save`;
    const { items } = await attempt('listing copies', () => batch.listNamespacedJob({ namespace, labelSelector }));
    const running = items.filter((job) => !ended(job, 'Complete') && !ended(job, 'Failed'));
    for (const job of running) if (job.metadata?.deletionTimestamp === undefined) await this.#remove(job);
    return running.length;
  }

  #read({ mode, diskId, snapshotId }: CopyId): Promise<V1Job | null> {
    const { batch, namespace } = this.#client;
    const name = copyJobName(mode, diskId, snapshotId);
    return attemptOrNull(`reading copy ${name}`, () => batch.readNamespacedJob({ namespace, name }));
  }

  /** Create the Job, or join the one that another made at the same moment. */
  async #create(request: CopyRequest): Promise<V1Job> {
    const { batch, namespace } = this.#client;
    const body = jobOf(request, this.#settings, namespace);
    try {
      return await attempt(`creating copy ${body.metadata?.name}`, () => batch.createNamespacedJob({ namespace, body }));
    } catch (error) {
      const found = hasStatus(error, 409) ? await this.#read(request) : null;
      if (found === null) throw error;
      return found;
    }
  }

  async #remove(job: V1Job): Promise<void> {
    const { batch, namespace } = this.#client;
    const { name = '', uid = '' } = job.metadata ?? {};
    const body = { propagationPolicy: 'Background', preconditions: { uid } };
    try {
      await attemptOrNull(`removing copy ${name}`, () => batch.deleteNamespacedJob({ namespace, name, body }));
    } catch (error) {
      if (!hasStatus(error, 409)) throw error;
    }
  }

  /** Make what the Job's pod waits for, unless it is there. No pod runs before its policy stands. */
  async #surround(job: V1Job, request: CopyId): Promise<void> {
    const { core, networking, namespace } = this.#client;
    const name = job.metadata?.name ?? '';
    const there = await attemptOrNull('reading the script of a copy', () =>
      core.readNamespacedConfigMap({ namespace, name }, briefly()),
    );
    if (there !== null) return;
    const { policy, scripts } = aroundOf(job, request);
    const made = async (what: string, create: () => Promise<unknown>) => {
      try {
        await attempt(`creating the ${what} of a copy`, create);
      } catch (error) {
        if (!hasStatus(error, 409)) throw error;
      }
    };
    await made('network policy', () => networking.createNamespacedNetworkPolicy({ namespace, body: policy }, briefly()));
    await made('script', () => core.createNamespacedConfigMap({ namespace, body: scripts }, briefly()));
  }

  /** The youngest of its pods: the earlier ones have failed. */
  async #pod(job: V1Job): Promise<V1Pod | null> {
    const { core, namespace } = this.#client;
    const labelSelector = `job-name=${job.metadata?.name}`;
    const { items } = await attempt('listing pods of a copy', () => core.listNamespacedPod({ namespace, labelSelector }));
    const own = items.filter(({ metadata }) => metadata?.ownerReferences?.some(({ uid }) => uid === job.metadata?.uid));
    return own.sort((a, b) => bornAt(b) - bornAt(a))[0] ?? null;
  }

  /** Why no copy comes of it; null while it may. */
  #failure(job: V1Job, pod: V1Pod | null): string | null {
    const failed = job.status?.conditions?.find(({ type, status }) => type === 'Failed' && status === 'True');
    const end = endOf(pod);
    const said = end?.message?.trim() ? end.message.trim() : null;
    if (failed !== undefined) {
      if (failed.reason === 'DeadlineExceeded') return `The copy took longer than ${timeOf(this.#settings.limitSeconds)}`;
      return said ?? `The copy failed: ${pod?.status?.message ?? failed.message ?? 'no reason given'}`;
    }
    if (within(HOPELESS, end?.exitCode)) return said ?? `The copy failed with exit code ${end?.exitCode}`;
    if (pod === null || hasStarted(pod)) return null;
    const waiting = waitingOf(pod);
    if (waiting?.reason !== NEVER_AN_IMAGE && Date.now() - bornAt(pod) < this.#settings.patienceMs) return null;
    return `The copy could not begin: ${waitsFor(pod)}`;
  }

  /** What the script told of the disk that it saved; empty if it told nothing, or nobody can say what. */
  async #contents(job: V1Job, { mode }: CopyId): Promise<{ contents?: DiskContents }> {
    if (mode !== 'save') return {};
    const log = await this.#pod(job)
      .then((pod) => this.#log(pod, WHOLE_LOG))
      .catch(() => null);
    const contents = log === null ? null : contentsOfLog(log);
    return contents === null ? {} : { contents };
  }

  async #log(pod: V1Pod | null, part: { tailLines?: number; limitBytes: number }): Promise<string | null> {
    const name = pod?.metadata?.name;
    if (name === undefined) return null;
    const { core, namespace } = this.#client;
    const log = await attemptOrNull('reading the log of a copy', () =>
      core.readNamespacedPodLog({ namespace, name, container: COPY_CONTAINER, ...part }),
    ).catch(() => null);
    return log === null ? null : String(log);
  }

  /** What the script last told; 0 if it told nothing yet, or its log cannot be read now. */
  async #percent(pod: V1Pod | null): Promise<number> {
    const log = await this.#log(pod, LOG);
    const told = [...(log ?? '').matchAll(/^progress (\d{1,3})$/gm)].at(-1)?.[1];
    return Math.min(99, Number(told ?? 0));
  }
}

function ended(job: V1Job, type: 'Complete' | 'Failed'): boolean {
  return (job.status?.conditions ?? []).some((one) => one.type === type && one.status === 'True');
}

const within = ({ from, to }: { from: number; to: number }, code: number | undefined): boolean =>
  code !== undefined && code >= from && code <= to;

function endOf(pod: V1Pod | null) {
  return pod?.status?.containerStatuses?.find(({ name }) => name === COPY_CONTAINER)?.state?.terminated;
}

const bornAt = (pod: V1Pod): number => new Date(pod.metadata?.creationTimestamp ?? 0).getTime();

function hasStarted(pod: V1Pod | null): boolean {
  return (pod?.status?.containerStatuses ?? []).some(({ state }) => state?.running ?? state?.terminated);
}

function waitingOf(pod: V1Pod) {
  return pod.status?.containerStatuses?.find(({ state }) => state?.waiting?.reason)?.state?.waiting;
}

/** What a pod that has not begun waits for, in the words of the cluster. */
function waitsFor(pod: V1Pod | null): string {
  if (pod === null) return 'it has no pod yet';
  const unscheduled = pod.status?.conditions?.find(({ type, status }) => type === 'PodScheduled' && status === 'False');
  if (unscheduled !== undefined) return `no node takes it (${unscheduled.message ?? unscheduled.reason ?? 'no reason given'})`;
  const waiting = waitingOf(pod);
  if (waiting?.message !== undefined) return `${waiting.reason} (${waiting.message})`;
  return waiting?.reason ?? 'it waits for its node';
}

function timeOf(seconds: number): string {
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
