/** The Job of a build: what it runs, where, and with which rights. It names its context and its image; it holds no data and no secret. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { V1ConfigMap, V1Container, V1Job, V1ObjectMeta, V1Secret } from '@kubernetes/client-node';
import type { BuildRequest } from '../../../actors/image/ports.ts';
import type { Secret } from '../../../actors/secret.ts';
import { ANNOTATION, buildJobName, LABEL, labelValue, MANAGED_BY } from '../kubernetes/objects.ts';

export interface BuildSettings {
  /** Repository that images are pushed to; an image is `<repository>:<hash>`. */
  repository: string;
  /** The registry speaks plain http, or shows a certificate that nobody vouches for. */
  insecure: boolean;
  /** Image of the builder, by tag or digest. */
  builderImage: string;
  /** False runs the builder with all rights on its node: for clusters that forbid user namespaces. Then the image must be one with root. */
  rootless: boolean;
  /** Where pods of builds fetch their contexts: the address of the service as pods see it, without a path. */
  contextUrl: string;
  /** Seconds a build may take. */
  limitSeconds: number;
  /** Secret of type kubernetes.io/dockerconfigjson with the registry's credentials; null: it needs none. */
  registrySecret: string | null;
  /** Annotations of the Jobs, for what watches or steers them. */
  annotations: Record<string, string>;
}

export const BUILD_DEFAULTS: BuildSettings = {
  repository: 'registry.gpu-controlplane.svc.cluster.local:5000/gpu-dev',
  insecure: false,
  builderImage: 'moby/buildkit:v0.27.1-rootless',
  rootless: true,
  contextUrl: 'http://build-contexts.gpu-controlplane.svc.cluster.local',
  limitSeconds: 900,
  registrySecret: null,
  annotations: {},
};

export const FETCH_CONTAINER = 'fetch';
export const BUILD_CONTAINER = 'build';
const SCRIPT = readFileSync(new URL('build-scripts/build.sh', import.meta.url), 'utf8');
const SCRIPTS_FOLDER = '/etc/gpu-dev/build';
const CONTEXT_FOLDER = '/context';
const DIGITS = /^[0-9a-f]{6,64}$/;

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Where the image of this content goes: a tag is the content's own name, so no two contents share one. */
export function imageOf(settings: BuildSettings, hash: string): string {
  return `${settings.repository}:${DIGITS.test(hash) ? hash : sha256(hash)}`;
}

/** The cache of an owner. Nobody else reads or writes it: what stands in a cache is taken for the result of a step. */
export function cacheOf(settings: BuildSettings, owner: string): string {
  return `${settings.repository}:cache-${sha256(owner).slice(0, 40)}`;
}

function labelsOf({ hash, attempt, owner }: BuildRequest): Record<string, string> {
  return {
    [LABEL.managedBy]: MANAGED_BY,
    [LABEL.build]: labelValue(hash),
    [LABEL.attempt]: String(attempt),
    [LABEL.owner]: labelValue(owner),
  };
}

/** Whether the Job is this build and attempt. */
export function isOf(job: V1Job, { hash, attempt }: Pick<BuildRequest, 'hash' | 'attempt'>): boolean {
  const { labels = {}, annotations = {} } = job.metadata ?? {};
  return (
    labels[LABEL.managedBy] === MANAGED_BY && labels[LABEL.attempt] === String(attempt) && annotations[ANNOTATION.build] === hash
  );
}

/** The Job of a build. */
export function jobOf(request: BuildRequest, settings: BuildSettings, namespace: string): V1Job {
  const { builderImage, limitSeconds, registrySecret, annotations } = settings;
  const name = buildJobName(request.hash, request.attempt);
  const labels = labelsOf(request);
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {
      name,
      namespace,
      labels,
      annotations: { ...annotations, [ANNOTATION.owner]: request.owner, [ANNOTATION.build]: request.hash },
    },
    spec: {
      // A further try is a Job of its own, which whoever asked decides.
      backoffLimit: 0,
      activeDeadlineSeconds: limitSeconds,
      ttlSecondsAfterFinished: 3600,
      template: {
        metadata: {
          labels,
          // Mounting in a user namespace of its own is what the default profile forbids.
          ...(settings.rootless
            ? { annotations: { [`container.apparmor.security.beta.kubernetes.io/${BUILD_CONTAINER}`]: 'unconfined' } }
            : {}),
        },
        spec: {
          restartPolicy: 'Never',
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          nodeSelector: { NodeType: 'cpu' },
          tolerations: [{ key: 'node-role', operator: 'Equal', value: 'cpu-only', effect: 'NoSchedule' }],
          securityContext: { fsGroup: 1000, fsGroupChangePolicy: 'OnRootMismatch' },
          initContainers: [fetchContainer(request, builderImage, settings)],
          containers: [buildContainer(request, settings)],
          volumes: [
            { name: 'scripts', configMap: { name, defaultMode: 0o555 } },
            { name: 'token', secret: { secretName: name, defaultMode: 0o440 } },
            { name: 'context', emptyDir: { sizeLimit: '2Gi' } },
            { name: 'state', emptyDir: { sizeLimit: '100Gi' } },
            { name: 'tmp', emptyDir: { sizeLimit: '1Gi' } },
            ...(registrySecret === null
              ? []
              : [
                  {
                    name: 'registry',
                    secret: { secretName: registrySecret, items: [{ key: '.dockerconfigjson', path: 'config.json' }] },
                  },
                ]),
          ],
        },
      },
    },
  };
}

const asEnvironment = (values: Record<string, string>) => Object.entries(values).map(([name, value]) => ({ name, value }));

/** Has the token, and runs nothing but our own script. */
function fetchContainer({ hash }: BuildRequest, image: string, { contextUrl }: BuildSettings): V1Container {
  return {
    name: FETCH_CONTAINER,
    image,
    command: ['/bin/sh', `${SCRIPTS_FOLDER}/build.sh`, 'fetch'],
    env: asEnvironment({ CONTEXT: CONTEXT_FOLDER, CONTEXT_URL: `${contextUrl}/v1/build-contexts/${encodeURIComponent(hash)}` }),
    resources: { requests: { cpu: '100m', memory: '64Mi' }, limits: { memory: '256Mi' } },
    securityContext: {
      runAsNonRoot: true,
      runAsUser: 1000,
      runAsGroup: 1000,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
    volumeMounts: [
      { name: 'scripts', mountPath: SCRIPTS_FOLDER, readOnly: true },
      { name: 'token', mountPath: '/run/gpu-dev/token', readOnly: true },
      { name: 'context', mountPath: CONTEXT_FOLDER },
    ],
  };
}

/** Runs the steps of the Dockerfile. */
function buildContainer({ hash, owner }: BuildRequest, settings: BuildSettings): V1Container {
  const { rootless, insecure, registrySecret, builderImage } = settings;
  const home = rootless ? '/home/user' : '/root';
  return {
    name: BUILD_CONTAINER,
    image: builderImage,
    command: ['/bin/sh', `${SCRIPTS_FOLDER}/build.sh`, 'build'],
    env: asEnvironment({
      CONTEXT: CONTEXT_FOLDER,
      IMAGE: imageOf(settings, hash),
      // Where anybody may push, anybody may write into the caches of others.
      CACHE: settings.registrySecret === null ? '' : cacheOf(settings, owner),
      ...(insecure ? { REGISTRY_INSECURE: 'true' } : {}),
      // Its own steps share its processes: a pod without rights has no second /proc to give away.
      ...(rootless ? { BUILDKITD_FLAGS: '--oci-worker-no-process-sandbox' } : {}),
      ...(registrySecret === null ? {} : { DOCKER_CONFIG: `${home}/.docker` }),
    }),
    resources: { requests: { cpu: '2', memory: '4Gi' }, limits: { cpu: '8', memory: '16Gi' } },
    securityContext: rootless
      ? { runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, seccompProfile: { type: 'Unconfined' } }
      : { privileged: true },
    volumeMounts: [
      { name: 'scripts', mountPath: SCRIPTS_FOLDER, readOnly: true },
      { name: 'context', mountPath: CONTEXT_FOLDER },
      { name: 'state', mountPath: rootless ? '/home/user/.local/share/buildkit' : '/var/lib/buildkit' },
      { name: 'tmp', mountPath: '/tmp' },
      ...(registrySecret === null ? [] : [{ name: 'registry', mountPath: `${home}/.docker`, readOnly: true }]),
    ],
  };
}

/** What the Job's pod waits for: its script, and the token. Both belong to the Job and go with it. */
export function aroundOf(job: V1Job, request: BuildRequest, token: Secret<string>): { scripts: V1ConfigMap; secret: V1Secret } {
  const { name = '', namespace = '', uid = '' } = job.metadata ?? {};
  const metadata: V1ObjectMeta = {
    name,
    namespace,
    labels: labelsOf(request),
    annotations: { [ANNOTATION.build]: request.hash },
    ownerReferences: [{ apiVersion: 'batch/v1', kind: 'Job', name, uid }],
  };
  return {
    scripts: { metadata, immutable: true, data: { 'build.sh': SCRIPT } },
    secret: {
      metadata,
      type: 'Opaque',
      immutable: true,
      data: { token: Buffer.from(token.reveal()).toString('base64') },
    },
  };
}
