/** Image builds as Jobs on the cluster: one Job for a hash and attempt, looked at until it ends. */
import type { V1Job, V1Pod } from '@kubernetes/client-node';
import type { BuildProgress, BuildRequest, ImageBuilder } from '../../../actors/image/ports.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { asPort, attempt, attemptOrNull, hasStatus } from '../kubernetes/errors.ts';
import { ANNOTATION, buildJobName, LABEL, labelValue, MANAGED_BY } from '../kubernetes/objects.ts';

export interface JobBuilderOptions {
  client: KubernetesClient;
  /** Repository that images are pushed to; an image is `<repository>:<hash>`. */
  repository?: string;
  /** Image of the builder; rootless, so that a build owns nothing of its node. */
  builderImage?: string;
  /** Command of the builder. It finds CONTEXT_HASH and IMAGE in its environment; left out: the image's own. */
  command?: string[];
  /** Environment of the builder, such as where contexts are read from. No secrets: Jobs are readable by operators. */
  environment?: Record<string, string>;
  /** Annotations of the Jobs, for what watches or steers them. */
  annotations?: Record<string, string>;
  /** Secret with the registry's credentials, mounted as the builder's docker configuration. */
  registrySecret?: string;
  /** Seconds a build may take. Default 900. */
  limitSeconds?: number;
}

const CONTAINER = 'build';

export class JobBuilder implements ImageBuilder {
  readonly #client: KubernetesClient;
  readonly #options: Required<Omit<JobBuilderOptions, 'client' | 'registrySecret' | 'command'>> & JobBuilderOptions;

  constructor(options: JobBuilderOptions) {
    this.#client = options.client;
    this.#options = {
      repository: 'registry.gpu-controlplane.svc.cluster.local:5000/gpu-dev',
      builderImage: 'moby/buildkit:v0.27.1-rootless',
      environment: {},
      annotations: {},
      limitSeconds: 900,
      ...options,
    };
  }

  build(request: BuildRequest): Promise<BuildProgress> {
    return asPort(async () => {
      const job = (await this.#read(request)) ?? (await this.#create(request));
      if (!isOf(job, request)) return { state: 'failed', reason: 'A job of that name is on the cluster and is not this build' };
      if (ended(job, 'Complete')) return { state: 'succeeded', image: this.#imageOf(request.hash) };
      if (ended(job, 'Failed')) return { state: 'failed', reason: await this.#reason(job) };
      return { state: 'running', detail: detailOf(await this.#pod(job)) };
    });
  }

  cancel(request: Pick<BuildRequest, 'hash' | 'attempt'>): Promise<void> {
    return asPort(async () => {
      const job = await this.#read(request);
      if (job === null || !isOf(job, request)) return;
      const { batch, namespace } = this.#client;
      const body = { propagationPolicy: 'Background', preconditions: { uid: job.metadata?.uid ?? '' } };
      const name = buildJobName(request.hash, request.attempt);
      try {
        await attemptOrNull('stopping the build', () => batch.deleteNamespacedJob({ namespace, name, body }));
      } catch (error) {
        if (!hasStatus(error, 409)) throw error;
      }
    });
  }

  #imageOf(hash: string): string {
    return `${this.#options.repository}:${hash}`;
  }

  #read({ hash, attempt: number }: Pick<BuildRequest, 'hash' | 'attempt'>): Promise<V1Job | null> {
    const { batch, namespace } = this.#client;
    const name = buildJobName(hash, number);
    return attemptOrNull(`reading build ${name}`, () => batch.readNamespacedJob({ namespace, name }));
  }

  /** Create the Job, or join the one that another made at the same moment. */
  async #create(request: BuildRequest): Promise<V1Job> {
    const { batch, namespace } = this.#client;
    const body = this.#job(request);
    try {
      return await attempt(`creating build ${body.metadata?.name}`, () => batch.createNamespacedJob({ namespace, body }));
    } catch (error) {
      const found = hasStatus(error, 409) ? await this.#read(request) : null;
      if (found === null) throw error;
      return found;
    }
  }

  #job(request: BuildRequest): V1Job {
    const { builderImage, command, environment, limitSeconds, registrySecret } = this.#options;
    const labels = {
      [LABEL.managedBy]: MANAGED_BY,
      [LABEL.build]: labelValue(request.hash),
      [LABEL.owner]: labelValue(request.owner),
    };
    const values = { ...environment, CONTEXT_HASH: request.hash, IMAGE: this.#imageOf(request.hash) };
    return {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: {
        name: buildJobName(request.hash, request.attempt),
        namespace: this.#client.namespace,
        labels,
        annotations: { ...this.#options.annotations, [ANNOTATION.owner]: request.owner },
      },
      spec: {
        // A further try is a Job of its own, which whoever asked decides.
        backoffLimit: 0,
        activeDeadlineSeconds: limitSeconds,
        ttlSecondsAfterFinished: 3600,
        template: {
          metadata: { labels },
          spec: {
            restartPolicy: 'Never',
            automountServiceAccountToken: false,
            enableServiceLinks: false,
            nodeSelector: { NodeType: 'cpu' },
            containers: [
              {
                name: CONTAINER,
                image: builderImage,
                ...(command === undefined ? {} : { command }),
                env: Object.entries(values).map(([name, value]) => ({ name, value })),
                resources: { requests: { cpu: '2', memory: '4Gi' }, limits: { cpu: '8', memory: '16Gi' } },
                securityContext: { runAsUser: 1000, runAsGroup: 1000, seccompProfile: { type: 'Unconfined' } },
                volumeMounts:
                  registrySecret === undefined ? [] : [{ name: 'registry', mountPath: '/home/user/.docker', readOnly: true }],
              },
            ],
            volumes: registrySecret === undefined ? [] : [{ name: 'registry', secret: { secretName: registrySecret } }],
          },
        },
      },
    };
  }

  async #pod(job: V1Job): Promise<V1Pod | null> {
    const { core, namespace } = this.#client;
    const labelSelector = `job-name=${job.metadata?.name}`;
    const pods = await attempt('listing pods of a build', () => core.listNamespacedPod({ namespace, labelSelector }));
    return pods.items.find(({ metadata }) => metadata?.ownerReferences?.some(({ uid }) => uid === job.metadata?.uid)) ?? null;
  }

  /** Why the build failed: the last lines that it wrote, without anything that looks like a credential. */
  async #reason(job: V1Job): Promise<string> {
    const failed = job.status?.conditions?.find(({ type, status }) => type === 'Failed' && status === 'True');
    if (failed?.reason === 'DeadlineExceeded') return `The build took longer than ${this.#options.limitSeconds / 60} minutes`;
    const pod = await this.#pod(job);
    const name = pod?.metadata?.name;
    const { core, namespace } = this.#client;
    const log =
      name === undefined
        ? null
        : await attemptOrNull('reading the log of a build', () =>
            core.readNamespacedPodLog({ namespace, name, container: CONTAINER, tailLines: 20 }),
          ).catch(() => null);
    const lines = withoutCredentials(String(log ?? '')).trim();
    return lines === ''
      ? `The build failed: ${failed?.message ?? 'no reason given'}`
      : `The build failed:\n${lines.slice(-2000)}`;
  }
}

function isOf(job: V1Job, { hash }: Pick<BuildRequest, 'hash'>): boolean {
  const labels = job.metadata?.labels ?? {};
  return labels[LABEL.managedBy] === MANAGED_BY && labels[LABEL.build] === labelValue(hash);
}

function ended(job: V1Job, type: 'Complete' | 'Failed'): boolean {
  return (job.status?.conditions ?? []).some((one) => one.type === type && one.status === 'True');
}

function detailOf(pod: V1Pod | null): string {
  const waiting = pod?.status?.containerStatuses?.[0]?.state?.waiting;
  if (pod === null) return 'The build is being started';
  if (pod.status?.phase === 'Running') return 'Building the image';
  return waiting?.reason === undefined ? 'The build waits for a place' : `The build is being started (${waiting.reason})`;
}

const CREDENTIALS: readonly [RegExp, string][] = [
  [/\b(authorization["']?\s*[:=]).*/gi, '$1 [secret]'],
  [/\b(bearer|basic|token|password|passwd|secret|api[_-]?key)\b(["']?\s*[:= ]\s*["']?)\S+/gi, '$1$2[secret]'],
  [
    /\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bey[A-Za-z0-9_-]{20,}\.[A-Za-z0-9._-]+/g,
    '[secret]',
  ],
  [/(\w+:\/\/)[^/\s:@]+:[^/\s@]+@/g, '$1[secret]@'],
  [/[A-Za-z0-9+/_-]{80,}={0,2}/g, '[secret]'],
];

/** Text without what looks like a credential: tokens, passwords in URLs, long opaque strings. */
export function withoutCredentials(text: string): string {
  return CREDENTIALS.reduce((clean, [pattern, mask]) => clean.replace(pattern, mask), text);
}
