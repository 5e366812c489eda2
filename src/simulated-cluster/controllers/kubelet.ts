import { sameJson } from '../patch.ts';
import { keyOf } from '../store.ts';
import type { KubeObject, Loose, StoreEvent } from '../types.ts';
import { type Controller, setCondition, type World } from '../world.ts';
import { ContainerSteps } from './containers.ts';
import { mountProblem } from './mounts.ts';
import { initialized, writeStatus } from './pod-status.ts';
import { appendLog, forgetRun, loadRun, type PodRun, saveRun } from './runtime.ts';

const NAME = 'kubelet';
/** How often a pod that waits for a volume, Secret or ConfigMap looks again. */
const MOUNT_POLL = 100;
const MOUNT_POLL_MAX = 3_000;
const ENDED = ['Succeeded', 'Failed'];
export const LOST_NODES = 'lost-nodes';

/** Runs the pods of all nodes: containers start, become ready, end and stop, each after its delay. */
export class Kubelet implements Controller {
  readonly name = NAME;
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  onChange({ type, resource, object, previous }: StoreEvent): void {
    if (resource !== 'pods') return;
    if (type === 'DELETED') {
      this.world.store.timers.clear(`${NAME}|${keyOf(object)}`);
      this.world.wake('graves', object.metadata.uid, 0);
      return;
    }
    if (!object.spec.nodeName) return;
    const relevant = (pod: KubeObject | undefined): Loose => [
      pod?.spec.nodeName,
      pod?.metadata.deletionTimestamp,
      pod?.metadata.deletionGracePeriodSeconds,
      pod?.metadata.annotations,
    ];
    if (!sameJson(relevant(previous), relevant(object))) this.world.wake(NAME, keyOf(object), 0);
  }

  onTimer(key: string): void {
    const pod = this.world.get('pods', key);
    if (pod === undefined || !pod.spec.nodeName || this.isLost(pod.spec.nodeName)) return;
    const run = loadRun(this.world, pod);
    if (pod.metadata.deletionTimestamp !== undefined) this.stop(pod, run);
    else if (!ENDED.includes(pod.status?.phase)) this.go(pod, run);
  }

  /** Ends a container as a fault would: the restart policy decides what comes next. False when it does not run. */
  endContainer(pod: KubeObject, container: string | undefined, end: { exitCode: number; reason: string }): boolean {
    const run = loadRun(this.world, pod);
    const name = container ?? pod.spec.containers[0]?.name;
    const each = run.containers[name];
    if (each?.state !== 'running') return false;
    each.endAt = this.world.store.now;
    each.end = end;
    saveRun(this.world, pod, run);
    this.world.wake(NAME, keyOf(pod), 0);
    return true;
  }

  /** Makes a running pod unready, or lets it be ready again. */
  setUnready(pod: KubeObject, unready: boolean): void {
    const run = loadRun(this.world, pod);
    if (unready) run.unready = true;
    else delete run.unready;
    saveRun(this.world, pod, run);
    this.world.wake(NAME, keyOf(pod), 0);
  }

  /** Ends a whole pod as Failed, whatever its restart policy: eviction, deadline, a failed node. */
  failPod(pod: KubeObject, reason: string, message: string, disrupted: boolean): void {
    const run = loadRun(this.world, pod);
    const { now } = this.world.store;
    for (const each of Object.values(run.containers)) {
      if (each.state !== 'done') {
        each.state = 'done';
        each.terminated = { exitCode: 137, reason: 'Error', startedAt: this.world.stamp, finishedAt: this.world.stamp };
      }
      delete each.until;
      delete each.endAt;
    }
    run.stopAt = now;
    saveRun(this.world, pod, run);
    this.world.updateStatus('pods', keyOf(pod), (draft) => {
      writeStatus(this.world, draft, run);
      draft.status.phase = 'Failed';
      draft.status.reason = reason;
      draft.status.message = message;
      if (disrupted) {
        setCondition(draft.status, this.world.stamp, {
          type: 'DisruptionTarget',
          status: 'True',
          reason: 'TerminationByKubelet',
          message,
        });
      }
    });
    this.world.event(pod, 'Warning', reason, message, NAME, pod.spec.nodeName);
  }

  isLost(node: string): boolean {
    return this.world.store.side.get(LOST_NODES, node) !== undefined;
  }

  private go(pod: KubeObject, run: PodRun): void {
    const { store } = this.world;
    const key = keyOf(pod);
    run.startedAt ??= store.now;
    const deadline = pod.spec.activeDeadlineSeconds;
    if (deadline !== undefined && store.now >= run.startedAt + deadline * 1000) {
      this.failPod(pod, 'DeadlineExceeded', 'Pod was active on the node longer than the specified deadline', false);
      return;
    }
    if (!run.mounted) {
      const problem = mountProblem(this.world, pod);
      if (problem === undefined) run.mounted = true;
      else {
        // Told once, and looked at ever more rarely: a pod that waits for a Secret for hours must not fill the journal.
        if (problem.message !== undefined && problem.message !== run.mountProblem)
          this.world.event(pod, 'Warning', problem.reason, problem.message, NAME, pod.spec.nodeName);
        if (problem.message !== undefined) run.mountProblem = problem.message;
        run.mountTries = (run.mountTries ?? 0) + 1;
        this.world.wake(NAME, key, Math.min(MOUNT_POLL * 2 ** Math.floor(run.mountTries / 5), MOUNT_POLL_MAX));
      }
    }
    if (run.mounted) this.containers(pod, run);
    saveRun(this.world, pod, run);
    this.world.updateStatus('pods', key, (draft) => writeStatus(this.world, draft, run));
    const next = nextStep(run, store.now);
    if (next !== undefined) this.world.wake(NAME, key, next - store.now);
    if (deadline !== undefined) this.world.wake(NAME, key, Math.max(0, run.startedAt + deadline * 1000 - store.now));
  }

  private containers(pod: KubeObject, run: PodRun): void {
    run.ip ??= this.address(pod);
    const steps = new ContainerSteps(this.world, pod, run);
    for (const container of pod.spec.initContainers ?? []) {
      steps.advance(container, container.restartPolicy === 'Always' ? 'sidecar' : 'init');
      if (!initialized(container, run.containers[container.name])) return;
    }
    for (const container of pod.spec.containers) {
      steps.advance(container, 'main');
      const { state, restarts } = steps.of(container);
      // Containers are started one after the other, as a kubelet does.
      if (restarts === 0 && (state === 'pulling' || state === 'creating')) return;
    }
  }

  private address(pod: KubeObject): string {
    const { random } = this.world.store;
    if (pod.spec.hostNetwork) {
      const node = this.world.get('nodes', pod.spec.nodeName);
      return node?.status?.addresses?.[0]?.address ?? '127.0.0.1';
    }
    return `10.${200 + random.integer(50)}.${random.integer(256)}.${1 + random.integer(254)}`;
  }

  private stop(pod: KubeObject, run: PodRun): void {
    const { store, settings } = this.world;
    const key = keyOf(pod);
    const grace = (pod.metadata.deletionGracePeriodSeconds ?? 30) * 1000;
    if (run.stopAt === undefined) {
      run.stopAt = store.now + Math.min(settings.delays.terminate, grace);
      for (const [name, each] of Object.entries(run.containers)) {
        if (each.state !== 'running') continue;
        this.world.event(pod, 'Normal', 'Killing', `Stopping container ${name}`, NAME, pod.spec.nodeName);
        appendLog(this.world, pod.metadata.uid, name, `simulated container ${name} received SIGTERM`);
      }
      saveRun(this.world, pod, run);
    }
    if (store.now < run.stopAt) {
      this.world.wake(NAME, key, run.stopAt - store.now);
      return;
    }
    for (const each of Object.values(run.containers)) {
      if (each.state === 'done') continue;
      each.state = 'done';
      each.terminated = { exitCode: 0, reason: 'Completed', startedAt: this.world.stamp, finishedAt: this.world.stamp };
    }
    saveRun(this.world, pod, run);
    const stopped = this.world.updateStatus('pods', key, (draft) => writeStatus(this.world, draft, run));
    if (stopped !== undefined) this.world.delete('pods', stopped, { graceSeconds: 0 });
  }
}

/** Cleans up after pods that are gone. */
export class Graves implements Controller {
  readonly name = 'graves';
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  onChange(): void {}

  onTimer(uid: string): void {
    forgetRun(this.world, uid);
  }
}

function nextStep(run: PodRun, now: number): number | undefined {
  const times: number[] = [];
  for (const each of Object.values(run.containers)) {
    for (const time of [each.until, each.endAt, each.readyAt]) if (time !== undefined && time > now) times.push(time);
  }
  return times.length === 0 ? undefined : Math.min(...times);
}
