import { timestamp } from '../quantities.ts';
import type { KubeObject, Loose } from '../types.ts';
import { setCondition, type World } from '../world.ts';
import { containerId } from './containers.ts';
import type { ContainerRun, PodRun } from './runtime.ts';

/** Writes what the kubelet knows of a pod into its status. */
export function writeStatus(world: World, pod: KubeObject, run: PodRun): void {
  const { now } = world.store;
  const { spec, status } = pod;
  const node = world.get('nodes', spec.nodeName);
  const hostIP = node?.status?.addresses?.find((each: Loose) => each.type === 'InternalIP')?.address;
  if (hostIP !== undefined) {
    status.hostIP = hostIP;
    status.hostIPs = [{ ip: hostIP }];
  }
  if (run.startedAt !== undefined) status.startTime = timestamp(run.startedAt);
  if (run.ip !== undefined) {
    status.podIP = run.ip;
    status.podIPs = [{ ip: run.ip }];
  }
  const initDone = (spec.initContainers ?? []).every((container: Loose) =>
    initialized(container, run.containers[container.name]),
  );
  const report = (container: Loose, waiting: string): Loose => containerStatus(pod, container, run, waiting, now);
  if ((spec.initContainers ?? []).length > 0) {
    status.initContainerStatuses = spec.initContainers.map((container: Loose) => report(container, 'PodInitializing'));
  }
  status.containerStatuses = spec.containers.map((container: Loose) =>
    report(container, initDone ? 'ContainerCreating' : 'PodInitializing'),
  );
  const phase = phaseOf(pod, run, initDone);
  status.phase = phase;
  const ended = phase === 'Succeeded' || phase === 'Failed';
  const ready = !ended && status.containerStatuses.every((each: Loose) => each.ready);
  const unready = status.containerStatuses.filter((each: Loose) => !each.ready).map((each: Loose) => each.name);
  const why = ready
    ? {}
    : phase === 'Succeeded'
      ? { reason: 'PodCompleted' }
      : phase === 'Failed'
        ? { reason: 'PodFailed' }
        : { reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` };
  const set = (type: string, holds: boolean, more: { reason?: string; message?: string } = {}): void =>
    setCondition(status, world.stamp, { type, status: holds ? 'True' : 'False', ...more });
  set('PodReadyToStartContainers', run.mounted && !ended);
  set('Initialized', initDone, initDone ? {} : { reason: 'ContainersNotInitialized' });
  set('Ready', ready, why);
  set('ContainersReady', ready, why);
}

/** Whether an init container no longer holds up the ones after it. */
export function initialized(container: Loose, run: ContainerRun | undefined): boolean {
  if (run === undefined) return false;
  if (container.restartPolicy === 'Always') return run.state === 'running' || run.restarts > 0;
  return run.state === 'done' && run.terminated?.exitCode === 0;
}

function phaseOf(pod: KubeObject, run: PodRun, initDone: boolean): string {
  const initFailed = (pod.spec.initContainers ?? []).some((container: Loose) => {
    const each = run.containers[container.name];
    return each?.state === 'done' && each.terminated?.exitCode !== 0;
  });
  if (initFailed) return 'Failed';
  const mains: (ContainerRun | undefined)[] = pod.spec.containers.map((container: Loose) => run.containers[container.name]);
  if (mains.every((each) => each?.state === 'done'))
    return mains.every((each) => each?.terminated?.exitCode === 0) ? 'Succeeded' : 'Failed';
  const begun = mains.some(
    (each) => each !== undefined && (each.state === 'running' || each.state === 'done' || each.restarts > 0),
  );
  return initDone && begun ? 'Running' : 'Pending';
}

function containerStatus(pod: KubeObject, container: Loose, podRun: PodRun, waiting: string, now: number): Loose {
  const run: ContainerRun = podRun.containers[container.name] ?? { state: 'waiting', restarts: 0 };
  const running = run.state === 'running';
  const isInit = (pod.spec.initContainers ?? []).includes(container) && container.restartPolicy !== 'Always';
  const ready = isInit
    ? run.state === 'done' && run.terminated?.exitCode === 0
    : running && run.readyAt !== undefined && run.readyAt <= now && podRun.unready !== true;
  const id = containerId(pod, container.name, run.restarts);
  return {
    name: container.name,
    image: container.image,
    imageID: running || run.state === 'done' ? `simulated://${container.image}` : '',
    ...(running || run.state === 'done' ? { containerID: id } : run.last ? { containerID: run.last.containerID } : {}),
    restartCount: run.restarts,
    ready,
    started: running,
    state: stateOf(run, waiting),
    lastState: run.last === undefined ? {} : { terminated: run.last },
  };
}

function stateOf(run: ContainerRun, waiting: string): Loose {
  if (run.state === 'running') return { running: { startedAt: timestamp(run.startedAt ?? 0) } };
  if (run.state === 'done') return { terminated: run.terminated };
  if (run.state === 'backoff')
    return { waiting: { reason: 'CrashLoopBackOff', message: 'back-off restarting failed container' } };
  if (run.terminated?.waiting) return { waiting: { reason: run.terminated.waiting, message: run.terminated.message } };
  return { waiting: { reason: waiting } };
}
