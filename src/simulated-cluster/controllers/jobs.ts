import { simulationAnnotations } from '../annotations.ts';
import { copyJson } from '../copy.ts';
import { keyOf } from '../store.ts';
import type { KubeObject, Loose, StoreEvent } from '../types.ts';
import { type Controller, setCondition, type World } from '../world.ts';

const NAME = 'jobs';
const JOBS = 'jobs.batch';
const COMPONENT = 'job-controller';
/** Pause before a failed pod is replaced; doubles with every failure. */
const FIRST_BACKOFF = 100;

/** Makes the pods of a Job and says how it ended: Complete, or Failed for its backoffLimit or deadline. */
export class Jobs implements Controller {
  readonly name = NAME;
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  onChange({ type, resource, object }: StoreEvent): void {
    if (resource === JOBS && type !== 'DELETED') this.world.wake(NAME, keyOf(object), 0);
    if (resource !== 'pods') return;
    const owner = object.metadata.ownerReferences?.find((each) => each.kind === 'Job' && each.controller);
    if (owner !== undefined) this.world.wake(NAME, `${object.metadata.namespace}/${owner.name}`, 0);
  }

  onTimer(key: string): void {
    const job = this.world.get(JOBS, key);
    if (job === undefined || job.metadata.deletionTimestamp) return;
    if (
      job.status?.conditions?.some(
        (each: Loose) => (each.type === 'Complete' || each.type === 'Failed') && each.status === 'True',
      )
    ) {
      this.expire(job, key);
      return;
    }
    if (job.spec.suspend) {
      this.suspend(job, key);
      return;
    }
    this.reconcile(job, key);
  }

  private reconcile(job: KubeObject, key: string): void {
    const { store } = this.world;
    const pods = this.podsOf(job);
    const succeeded = pods.filter((pod) => pod.status?.phase === 'Succeeded').length;
    const failed = pods.filter((pod) => pod.status?.phase === 'Failed').length;
    const active = pods.filter(
      (pod) => pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed' && !pod.metadata.deletionTimestamp,
    );
    const restarts = active.reduce(
      (sum, pod) => sum + (pod.status?.containerStatuses ?? []).reduce((n: number, each: Loose) => n + each.restartCount, 0),
      0,
    );
    const started: string = job.status?.startTime ?? this.world.stamp;
    const wanted: number = job.spec.completions ?? job.spec.parallelism ?? 1;
    const status = { startTime: started, succeeded, failed, active: active.length };
    const deadline =
      job.spec.activeDeadlineSeconds === undefined ? undefined : Date.parse(started) + job.spec.activeDeadlineSeconds * 1000;
    if (succeeded >= wanted)
      this.finish(job, key, status, 'Complete', 'CompletionsReached', 'Reached expected number of succeeded pods');
    else if (failed > job.spec.backoffLimit || (restarts > 0 && restarts >= job.spec.backoffLimit)) {
      this.fail(job, key, status, active, 'BackoffLimitExceeded', 'Job has reached the specified backoff limit');
    } else if (deadline !== undefined && store.now >= deadline) {
      this.fail(job, key, status, active, 'DeadlineExceeded', 'Job was active longer than specified deadline');
    } else {
      if (deadline !== undefined) this.world.wake(NAME, key, deadline - store.now);
      this.top(job, key, status, active.length, wanted - succeeded, failed, pods);
    }
  }

  /** Adds pods up to the parallelism; after a failure only when the pause is over. */
  private top(
    job: KubeObject,
    key: string,
    status: Loose,
    active: number,
    left: number,
    failed: number,
    pods: KubeObject[],
  ): void {
    const { store } = this.world;
    let missing = Math.min(job.spec.parallelism ?? 1, left) - active;
    const last = Math.max(0, ...pods.filter((pod) => pod.status?.phase === 'Failed').map((pod) => endOf(pod)));
    const pause = failed === 0 ? 0 : last + FIRST_BACKOFF * 2 ** (failed - 1) - store.now;
    if (missing > 0 && pause > 0) {
      this.world.wake(NAME, key, pause);
      missing = 0;
    }
    for (let made = 0; made < missing; made++) this.makePod(job);
    this.world.update(JOBS, key, (draft) => {
      draft.status = { ...draft.status, ...status, active: active + Math.max(0, missing), ready: active, terminating: 0 };
    });
  }

  private makePod(job: KubeObject): void {
    const { template } = job.spec;
    const { random } = this.world.store;
    const pod = {
      metadata: {
        name: `${job.metadata.name}-${random.suffix(5)}`,
        generateName: `${job.metadata.name}-`,
        namespace: job.metadata.namespace,
        labels: template.metadata?.labels ?? {},
        annotations: { ...simulationAnnotations(job), ...template.metadata?.annotations },
        finalizers: [],
        ownerReferences: [
          {
            apiVersion: 'batch/v1',
            kind: 'Job',
            name: job.metadata.name,
            uid: job.metadata.uid,
            controller: true,
            blockOwnerDeletion: true,
          },
        ],
      },
      spec: {
        serviceAccountName: 'default',
        priority: 0,
        tolerations: [],
        ...copyJson(template.spec),
      },
      status: { phase: 'Pending', qosClass: 'BestEffort' },
    };
    const made = this.world.create('pods', pod);
    this.world.event(job, 'Normal', 'SuccessfulCreate', `Created pod: ${made.metadata.name}`, COMPONENT);
  }

  private fail(job: KubeObject, key: string, status: Loose, active: KubeObject[], reason: string, message: string): void {
    for (const pod of active) {
      this.world.delete('pods', pod);
      this.world.event(job, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`, COMPONENT);
    }
    this.finish(job, key, { ...status, active: 0, failed: status.failed + active.length }, 'Failed', reason, message);
  }

  private finish(
    job: KubeObject,
    key: string,
    status: Loose,
    type: 'Complete' | 'Failed',
    reason: string,
    message: string,
  ): void {
    this.world.update(JOBS, key, (draft) => {
      draft.status = { ...draft.status, ...status, ready: 0, terminating: 0 };
      if (status.active === 0) delete draft.status.active;
      if (type === 'Complete') draft.status.completionTime = this.world.stamp;
      const first = type === 'Complete' ? 'SuccessCriteriaMet' : 'FailureTarget';
      setCondition(draft.status, this.world.stamp, { type: first, status: 'True', reason, message });
      setCondition(draft.status, this.world.stamp, { type, status: 'True', reason, message });
    });
    if (type === 'Complete') this.world.event(job, 'Normal', 'Completed', 'Job completed', COMPONENT);
    else this.world.event(job, 'Warning', reason, message, COMPONENT);
  }

  private expire(job: KubeObject, key: string): void {
    const ttl: number | undefined = job.spec.ttlSecondsAfterFinished;
    if (ttl === undefined) return;
    const end = job.status.conditions.find((each: Loose) => each.type === 'Complete' || each.type === 'Failed');
    const left = Date.parse(end.lastTransitionTime) + ttl * 1000 - this.world.store.now;
    if (left > 0) this.world.wake(NAME, key, left);
    else this.world.delete(JOBS, job);
  }

  private suspend(job: KubeObject, key: string): void {
    for (const pod of this.podsOf(job))
      if (!pod.metadata.deletionTimestamp && pod.status?.phase !== 'Succeeded') this.world.delete('pods', pod);
    this.world.update(JOBS, key, (draft) => {
      delete draft.status.startTime;
      draft.status.active = 0;
      setCondition(draft.status, this.world.stamp, {
        type: 'Suspended',
        status: 'True',
        reason: 'JobSuspended',
        message: 'Job suspended',
      });
    });
  }

  private podsOf(job: KubeObject): KubeObject[] {
    return this.world.store.indexes
      .dependents(job.metadata.uid)
      .filter(({ resource }) => resource === 'pods')
      .map(({ key }) => this.world.get('pods', key))
      .filter((pod) => pod !== undefined);
  }
}

function endOf(pod: KubeObject): number {
  const times = (pod.status?.containerStatuses ?? []).map((each: Loose) => Date.parse(each.state?.terminated?.finishedAt ?? ''));
  return Math.max(0, ...times.filter((time: number) => Number.isFinite(time)));
}
