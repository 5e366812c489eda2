import { knob, knobMs } from '../annotations.ts';
import { timestamp } from '../quantities.ts';
import type { KubeObject, Loose } from '../types.ts';
import { programOf } from '../programs.ts';
import type { World } from '../world.ts';
import { appendLog, type ContainerRun, type PodRun } from './runtime.ts';

const IMAGES = 'images';

/** Steps of one container: pulled, created, started, ended, started again. */
export class ContainerSteps {
  private readonly world: World;
  private readonly pod: KubeObject;
  private readonly run: PodRun;
  private readonly node: string;

  constructor(world: World, pod: KubeObject, run: PodRun) {
    this.world = world;
    this.pod = pod;
    this.run = run;
    this.node = pod.spec.nodeName;
  }

  of(container: Loose): ContainerRun {
    const known = this.run.containers[container.name];
    if (known !== undefined) return known;
    const fresh: ContainerRun = { state: 'waiting', restarts: 0 };
    this.run.containers[container.name] = fresh;
    return fresh;
  }

  /** Takes every step that is due; the container is left where it must wait for time. */
  advance(container: Loose, role: 'init' | 'sidecar' | 'main'): void {
    while (this.step(container, this.of(container), role)) {
      // Each step may make the next one due at once.
    }
  }

  private step(container: Loose, run: ContainerRun, role: 'init' | 'sidecar' | 'main'): boolean {
    const { now } = this.world.store;
    const due = run.until !== undefined && run.until <= now;
    switch (run.state) {
      case 'waiting':
        this.beginPull(container, run);
        return true;
      case 'pulling':
        if (!due) return false;
        this.pulled(container, run);
        return true;
      case 'creating':
        if (!due) return false;
        this.started(container, run, role);
        return true;
      case 'running':
        if (run.endAt === undefined || run.endAt > now) return false;
        this.ended(container, run, role);
        return true;
      case 'backoff':
        if (!due) return false;
        this.create(run);
        return true;
      case 'done':
        return false;
    }
  }

  private event(type: 'Normal' | 'Warning', reason: string, message: string): void {
    this.world.event(this.pod, type, reason, message, 'kubelet', this.node);
  }

  private beginPull(container: Loose, run: ContainerRun): void {
    const { store, settings } = this.world;
    const cached = store.side.get(IMAGES, `${this.node} ${container.image}`) !== undefined;
    if (cached && container.imagePullPolicy !== 'Always') {
      this.event('Normal', 'Pulled', `Container image "${container.image}" already present on machine`);
      this.create(run);
      return;
    }
    this.event('Normal', 'Pulling', `Pulling image "${container.image}"`);
    run.state = 'pulling';
    run.until = store.now + (cached ? 0 : (knobMs(this.pod, 'pull-ms') ?? settings.delays.pull));
  }

  private pulled(container: Loose, run: ContainerRun): void {
    const error = knob(this.pod, 'pull-error');
    if (error !== undefined) {
      const message = `Failed to pull image "${container.image}": ${error}`;
      this.event('Warning', 'Failed', message);
      this.event('Warning', 'BackOff', `Back-off pulling image "${container.image}"`);
      run.terminated = { waiting: 'ImagePullBackOff', message: `Back-off pulling image "${container.image}": ${error}` };
      run.until = this.world.store.now + this.world.settings.delays.crashBackoffMax;
      return;
    }
    delete run.terminated;
    this.event('Normal', 'Pulled', `Successfully pulled image "${container.image}"`);
    this.world.store.side.set(IMAGES, `${this.node} ${container.image}`, true);
    this.create(run);
  }

  private create(run: ContainerRun): void {
    run.state = 'creating';
    run.until = this.world.store.now + this.world.settings.delays.start;
  }

  private started(container: Loose, run: ContainerRun, role: 'init' | 'sidecar' | 'main'): void {
    const { store, settings } = this.world;
    const { now } = store;
    this.event('Normal', 'Created', `Created container: ${container.name}`);
    this.event('Normal', 'Started', `Started container ${container.name}`);
    run.state = 'running';
    run.startedAt = now;
    delete run.until;
    delete run.terminated;
    delete run.endAt;
    delete run.end;
    delete run.readyAt;
    if (knob(this.pod, 'never-ready') !== 'true') run.readyAt = now + settings.delays.ready;
    appendLog(
      this.world,
      this.pod.metadata.uid,
      container.name,
      `simulated container ${container.name} started (image ${container.image})`,
    );
    const text = knob(this.pod, 'log');
    if (text !== undefined && role === 'main') appendLog(this.world, this.pod.metadata.uid, container.name, text);
    if (role === 'main') programOf(this.world, this.pod, container)?.begin();
    const fate = role === 'init' ? { after: settings.delays.init, exitCode: 0 } : role === 'main' ? this.fate() : undefined;
    if (fate === undefined) return;
    run.endAt = now + fate.after;
    run.end = { exitCode: fate.exitCode, reason: fate.exitCode === 0 ? 'Completed' : 'Error' };
  }

  /** How a main container ends by itself: by annotation, or because it belongs to a Job. */
  private fate(): { after: number; exitCode: number } | undefined {
    const crash = knobMs(this.pod, 'crash-after-ms');
    if (crash !== undefined) return { after: crash, exitCode: 1 };
    const complete = knobMs(this.pod, 'complete-after-ms');
    const ofJob = this.pod.metadata.ownerReferences?.some((owner) => owner.kind === 'Job' && owner.controller) ?? false;
    const outcome = knob(this.pod, 'job-outcome');
    if (outcome === 'hang' || (complete === undefined && !ofJob && outcome === undefined)) return undefined;
    return { after: complete ?? this.world.settings.delays.job, exitCode: outcome === 'fail' ? 1 : 0 };
  }

  private ended(container: Loose, run: ContainerRun, role: 'init' | 'sidecar' | 'main'): void {
    const { now } = this.world.store;
    const end = run.end ?? { exitCode: 0, reason: 'Completed' };
    const program = role === 'main' && end.exitCode === 0 ? programOf(this.world, this.pod, container) : undefined;
    const { exitCode, message } = program?.finish() ?? { exitCode: end.exitCode, message: undefined };
    const reason = exitCode === end.exitCode ? end.reason : 'Error';
    const terminated = {
      exitCode,
      reason,
      ...(message === undefined ? {} : { message }),
      ...(exitCode === 137 ? { signal: 9 } : {}),
      startedAt: timestamp(run.startedAt ?? now),
      finishedAt: timestamp(now),
      containerID: containerId(this.pod, container.name, run.restarts),
    };
    appendLog(
      this.world,
      this.pod.metadata.uid,
      container.name,
      `simulated container ${container.name} ended: ${reason} (exit code ${exitCode})`,
    );
    delete run.endAt;
    delete run.end;
    delete run.readyAt;
    const policy: string = role === 'sidecar' ? 'Always' : this.pod.spec.restartPolicy;
    const again =
      role === 'init' ? exitCode !== 0 && policy !== 'Never' : policy === 'Always' || (policy === 'OnFailure' && exitCode !== 0);
    if (!again) {
      run.state = 'done';
      run.terminated = terminated;
      return;
    }
    run.last = terminated;
    run.restarts += 1;
    if (run.restarts === 1) {
      // The first restart comes at once, as with a real kubelet.
      this.create(run);
      return;
    }
    const { crashBackoff, crashBackoffMax } = this.world.settings.delays;
    run.state = 'backoff';
    run.until = now + Math.min(crashBackoffMax, crashBackoff * 2 ** (run.restarts - 2));
    this.event('Warning', 'BackOff', `Back-off restarting failed container ${container.name} in pod ${this.pod.metadata.name}`);
  }
}

export function containerId(pod: KubeObject, name: string, restarts: number): string {
  return `simulated://${pod.metadata.uid}-${name}-${restarts}`;
}
