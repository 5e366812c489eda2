/** Image builds as Jobs on the cluster: one Job for a hash and attempt, looked at until it ends. */
import { randomBytes } from 'node:crypto';
import type { V1Job, V1Pod, V1Secret } from '@kubernetes/client-node';
import type { BuildProgress, BuildRequest, ImageBuilder, LogLine } from '../../../actors/image/ports.ts';
import { Secret } from '../../../actors/secret.ts';
import { briefly, type KubernetesClient } from '../kubernetes/client.ts';
import { asPort, attempt, attemptOrNull, hasStatus } from '../kubernetes/errors.ts';
import { buildJobName } from '../kubernetes/objects.ts';
import {
  aroundOf,
  BUILD_CONTAINER,
  BUILD_DEFAULTS,
  type BuildSettings,
  FETCH_CONTAINER,
  imageOf,
  isOf,
  jobOf,
} from './build-job.ts';
import { linesOf, secretsOfDockerConfig, shortened, withoutCredentials } from './build-words.ts';

export { withoutCredentials } from './build-words.ts';

type Build = Pick<BuildRequest, 'hash' | 'attempt'>;

export interface JobBuilderOptions extends Partial<BuildSettings> {
  client: KubernetesClient;
  /** A token with which the pod of this build fetches its context, once. Left out: one that nobody honours. */
  grant?: (build: Build) => Promise<Secret<string>>;
}

/** Of one look at a log, at most. */
const LOG_BYTES = 512 * 1024;
/** Nodes' clocks and ours may differ by so many seconds. */
const SKEW_SECONDS = 10;
const REASON_LINES = 20;
const REASON_CHARACTERS = 2_000;
/** How long the registry's credentials are remembered, in milliseconds, to be kept out of logs. */
const REMEMBER_MS = 60_000;

const DIGEST = /^sha256:[0-9a-f]{64}$/;
const NO_DIGEST =
  'The image was built, and nobody can say which one it is: the builder told no digest of it, or its pod is gone. Ask for it again';

export class JobBuilder implements ImageBuilder {
  readonly #client: KubernetesClient;
  readonly #settings: BuildSettings;
  readonly #grant: (build: Build) => Promise<Secret<string>>;
  #registry: { secrets: string[]; until: number } = { secrets: [], until: 0 };

  constructor({ client, grant, ...settings }: JobBuilderOptions) {
    this.#client = client;
    this.#settings = { ...BUILD_DEFAULTS, ...settings };
    this.#grant = grant ?? (async () => new Secret(randomBytes(32).toString('hex')));
  }

  build(request: BuildRequest): Promise<BuildProgress> {
    return asPort(async () => {
      const job = (await this.#read(request)) ?? (await this.#create(request));
      if (!isOf(job, request)) return { state: 'failed', reason: 'A job of that name is on the cluster and is not this build' };
      const complete = ended(job, 'Complete');
      const failed = ended(job, 'Failed');
      const pod = await this.#pod(job);
      if (!complete && !failed && !hasStarted(pod)) {
        await this.#surround(job, request);
        return { state: 'running', detail: detailOf(pod), ...(request.lastLine === undefined ? {} : { lines: [] }) };
      }
      const log = request.lastLine === undefined ? {} : { lines: await this.#lines(pod, await request.lastLine()) };
      if (complete) {
        const image = this.#imageOf(request.hash, pod);
        return image === null ? { state: 'failed', reason: NO_DIGEST, ...log } : { state: 'succeeded', image, ...log };
      }
      if (failed) return { state: 'failed', reason: await this.#reason(job, pod), ...log };
      return { state: 'running', detail: detailOf(pod), ...log };
    });
  }

  cancel(request: Build): Promise<void> {
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

  /**
   * By the digest that the builder told of what it pushed; null if it told none. A tag is no image: whoever may push to the registry, the steps of
   * another build among them, decides what it leads to, and so does the registry when it is asked what the tag leads to now.
   */
  #imageOf(hash: string, pod: V1Pod | null): string | null {
    const told = pod?.status?.containerStatuses?.find(({ name }) => name === BUILD_CONTAINER)?.state?.terminated?.message?.trim();
    return told !== undefined && DIGEST.test(told) ? `${imageOf(this.#settings, hash)}@${told}` : null;
  }

  #read({ hash, attempt: number }: Build): Promise<V1Job | null> {
    const { batch, namespace } = this.#client;
    const name = buildJobName(hash, number);
    return attemptOrNull(`reading build ${name}`, () => batch.readNamespacedJob({ namespace, name }));
  }

  /** Create the Job, or join the one that another made at the same moment. */
  async #create(request: BuildRequest): Promise<V1Job> {
    const { batch, namespace } = this.#client;
    const body = jobOf(request, this.#settings, namespace);
    try {
      return await attempt(`creating build ${body.metadata?.name}`, () => batch.createNamespacedJob({ namespace, body }));
    } catch (error) {
      const found = hasStatus(error, 409) ? await this.#read(request) : null;
      if (found === null) throw error;
      return found;
    }
  }

  /** Make the script and the token that the Job's pod waits for, unless they are there. The token comes last: it is what is looked for. */
  async #surround(job: V1Job, request: BuildRequest): Promise<void> {
    const { core, namespace } = this.#client;
    const name = job.metadata?.name ?? '';
    const there = await attemptOrNull('reading the token of a build', () =>
      core.readNamespacedSecret({ namespace, name }, briefly()),
    );
    if (there !== null) return;
    const { scripts, secret } = aroundOf(job, request, await this.#grant(request));
    const made = async (what: string, create: () => Promise<unknown>) => {
      try {
        await attempt(`creating the ${what} of a build`, create);
      } catch (error) {
        if (!hasStatus(error, 409)) throw error;
      }
    };
    await made('script', () => core.createNamespacedConfigMap({ namespace, body: scripts }, briefly()));
    await made('token', () => core.createNamespacedSecret({ namespace, body: secret }, briefly()));
  }

  async #pod(job: V1Job): Promise<V1Pod | null> {
    const { core, namespace } = this.#client;
    const labelSelector = `job-name=${job.metadata?.name}`;
    const pods = await attempt('listing pods of a build', () => core.listNamespacedPod({ namespace, labelSelector }));
    return pods.items.find(({ metadata }) => metadata?.ownerReferences?.some(({ uid }) => uid === job.metadata?.uid)) ?? null;
  }

  /** What the build wrote since that time. A log that cannot be read now is read at the next look. */
  async #lines(pod: V1Pod | null, since: string | null): Promise<LogLine[]> {
    const sinceSeconds = since === null ? undefined : Math.ceil((Date.now() - Date.parse(since)) / 1_000) + SKEW_SECONDS;
    const log = await this.#log(pod, BUILD_CONTAINER, {
      timestamps: true,
      limitBytes: LOG_BYTES,
      ...(sinceSeconds === undefined ? {} : { sinceSeconds: Math.max(1, sinceSeconds) }),
    });
    const secrets = await this.#registrySecrets();
    return secrets === null ? [] : linesOf(log, since, secrets);
  }

  async #log(pod: V1Pod | null, container: string, options: object): Promise<string> {
    const name = pod?.metadata?.name;
    if (name === undefined) return '';
    const { core, namespace } = this.#client;
    const log = await attemptOrNull('reading the log of a build', () =>
      core.readNamespacedPodLog({ namespace, name, container, ...options }),
    ).catch(() => null);
    return String(log ?? '');
  }

  /** Why the build failed: the last lines that it wrote, without anything that is a credential or looks like one. */
  async #reason(job: V1Job, pod: V1Pod | null): Promise<string> {
    const failed = job.status?.conditions?.find(({ type, status }) => type === 'Failed' && status === 'True');
    if (failed?.reason === 'DeadlineExceeded') return `The build took longer than ${this.#settings.limitSeconds / 60} minutes`;
    const container = fetchFailed(pod) ? FETCH_CONTAINER : BUILD_CONTAINER;
    const secrets = await this.#registrySecrets();
    const log = secrets === null ? '' : await this.#log(pod, container, { tailLines: REASON_LINES, limitBytes: LOG_BYTES });
    const said = log.split('\n').map(shortened).join('\n');
    const lines = withoutCredentials(said, secrets ?? []).trim();
    return lines === ''
      ? `The build failed: ${failed?.message ?? 'no reason given'}`
      : `The build failed:\n${lines.slice(-REASON_CHARACTERS)}`;
  }

  /** Values that are known to be secret: those with which the builder comes to the registry. Null while they cannot be told: no log then. */
  async #registrySecrets(): Promise<string[] | null> {
    const name = this.#settings.registrySecret;
    if (name === null || Date.now() < this.#registry.until) return this.#registry.secrets;
    const { core, namespace } = this.#client;
    let found: V1Secret | null;
    try {
      found = await attemptOrNull('reading the credentials', () => core.readNamespacedSecret({ namespace, name }));
    } catch {
      return null;
    }
    const encoded = found?.data?.['.dockerconfigjson'] ?? '';
    const secrets = secretsOfDockerConfig(Buffer.from(encoded, 'base64').toString('utf8'));
    this.#registry = { secrets, until: Date.now() + REMEMBER_MS };
    return secrets;
  }
}

function ended(job: V1Job, type: 'Complete' | 'Failed'): boolean {
  return (job.status?.conditions ?? []).some((one) => one.type === type && one.status === 'True');
}

/** Its script and its token are mounted: nothing around it is needed any more. */
function hasStarted(pod: V1Pod | null): boolean {
  const { containerStatuses = [], initContainerStatuses = [] } = pod?.status ?? {};
  return [...initContainerStatuses, ...containerStatuses].some(({ state }) => state?.running ?? state?.terminated);
}

function fetchFailed(pod: V1Pod | null): boolean {
  const fetch = pod?.status?.initContainerStatuses?.find(({ name }) => name === FETCH_CONTAINER);
  return (fetch?.state?.terminated?.exitCode ?? 0) !== 0;
}

function detailOf(pod: V1Pod | null): string {
  if (pod === null) return 'The build is being started';
  if (pod.status?.phase === 'Running') return 'Building the image';
  const { containerStatuses = [], initContainerStatuses = [] } = pod.status ?? {};
  const waiting = [...initContainerStatuses, ...containerStatuses].find(({ state }) => state?.waiting?.reason)?.state?.waiting;
  return waiting?.reason === undefined ? 'The build waits for a place' : `The build is being started (${waiting.reason})`;
}
