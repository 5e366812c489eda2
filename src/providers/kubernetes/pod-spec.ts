/** The pod of a dev server: a pure function of its spec. */
import type { V1Container, V1EnvVar, V1Pod, V1Probe, V1Volume, V1VolumeMount } from '@kubernetes/client-node';
import type { ServerSpec } from '../../../actors/reservation/ports.ts';
import { GPU_TAINT } from './node-view.ts';
import {
  ANNOTATION,
  accessSecretName,
  environmentSecretName,
  hostLabel,
  LABEL,
  labelValue,
  MAIN_CONTAINER,
  podName,
  SERVER_APP,
  serverLabels,
} from './objects.ts';
import { ACCESS_FOLDER, HOME, STARTUP_SCRIPT, USER } from './startup.ts';

export interface PodSettings {
  namespace: string;
  /** Image of servers that name none. */
  defaultImage: string;
  imagePullPolicy: 'Always' | 'IfNotPresent' | 'Never';
}

export const POD_DEFAULTS: PodSettings = {
  namespace: 'gpu-dev',
  defaultImage: 'pytorch/pytorch:2.8.0-cuda12.9-cudnn9-devel',
  imagePullPolicy: 'IfNotPresent',
};

const SSH_PORT = 22;

/** How long a pod stays on a node that no longer answers, in seconds: with the cluster's own delay, its user is told within a minute or so. */
const LOST_NODE_SECONDS = 30;

/** The same spec always gives the same pod. Values of the user's environment are not in it: they are in a Secret beside it. */
export function podOf(spec: ServerSpec, settings: PodSettings): V1Pod {
  const labels: Record<string, string> = {
    [LABEL.app]: SERVER_APP,
    ...serverLabels(spec),
    [LABEL.owner]: labelValue(spec.owner),
    [LABEL.name]: labelValue(spec.name),
  };
  if (spec.claim !== null) labels[LABEL.claim] = spec.claim;
  if (spec.gang !== null) {
    labels[LABEL.gang] = labelValue(spec.gang.id);
    labels[LABEL.gangIndex] = String(spec.gang.index);
  }
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: podName(spec),
      namespace: settings.namespace,
      labels,
      annotations: { [ANNOTATION.owner]: spec.owner, [ANNOTATION.spec]: JSON.stringify(withoutSecrets(spec)) },
    },
    spec: {
      hostname: hostLabel(spec.name) || 'gpu-dev',
      restartPolicy: 'OnFailure',
      terminationGracePeriodSeconds: 30,
      automountServiceAccountToken: false,
      // Else each Service of the namespace adds seven variables, and with thousands of servers exec fails by their size.
      enableServiceLinks: false,
      nodeSelector: { ...spec.nodeLabels, GpuType: spec.gpuType },
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [spec.node] }] }],
          },
        },
      },
      tolerations: [
        { key: GPU_TAINT, operator: 'Exists', effect: 'NoSchedule' },
        ...['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'].map((key) => ({
          key,
          operator: 'Exists',
          effect: 'NoExecute',
          // Left out, the cluster waits five minutes.
          tolerationSeconds: LOST_NODE_SECONDS,
        })),
      ],
      securityContext: { seccompProfile: { type: 'RuntimeDefault' } },
      containers: [container(spec, settings)],
      volumes: volumes(spec),
    },
  };
}

function container(spec: ServerSpec, settings: PodSettings): V1Container {
  const own = spec.preserveEntrypoint;
  const hasEnvironment = Object.keys(spec.environment.reveal()).length > 0;
  return {
    name: MAIN_CONTAINER,
    image: spec.image ?? settings.defaultImage,
    imagePullPolicy: settings.imagePullPolicy,
    ...(own ? {} : { command: ['/bin/bash', '-c', STARTUP_SCRIPT] }),
    ...(own && spec.command !== null ? { args: ['/bin/sh', '-c', spec.command] } : {}),
    env: environment(spec),
    ...(hasEnvironment ? { envFrom: [{ secretRef: { name: environmentSecretName(spec) } }] } : {}),
    ports: [{ name: 'ssh', containerPort: SSH_PORT, protocol: 'TCP' }],
    resources: resources(spec),
    volumeMounts: mounts(),
    // IPC_LOCK lets RDMA pin memory. SYS_ADMIN is not given: with it, one user is close to root on the node of another.
    securityContext: { ...(own ? {} : { runAsUser: 0 }), capabilities: { add: ['IPC_LOCK'] } },
    // An image with its own entry point need not speak ssh: there, ready means that its container runs.
    ...(own ? {} : probes()),
  };
}

function probes(): { startupProbe: V1Probe; readinessProbe: V1Probe; livenessProbe: V1Probe } {
  const tcpSocket = { port: SSH_PORT };
  return {
    // An image without sshd installs it first; liveness must not count that time. Five minutes, as the limit of the state.
    startupProbe: { tcpSocket, periodSeconds: 1, failureThreshold: 300, timeoutSeconds: 1 },
    readinessProbe: { tcpSocket, periodSeconds: 5, failureThreshold: 3, timeoutSeconds: 2 },
    livenessProbe: { tcpSocket, periodSeconds: 20, failureThreshold: 6, timeoutSeconds: 5 },
  };
}

function resources(spec: ServerSpec): NonNullable<V1Container['resources']> {
  const devices: Record<string, string> = {};
  if (spec.resource !== null && spec.resource.count > 0) devices[spec.resource.name] = String(spec.resource.count);
  if (spec.efaCount > 0) {
    devices['vpc.amazonaws.com/efa'] = String(spec.efaCount);
    devices['hugepages-2Mi'] = '5120Mi';
  }
  return {
    requests: { cpu: `${spec.cpuRequestMillis}m`, memory: String(spec.memoryRequestBytes), ...devices },
    limits: { cpu: `${spec.cpuLimitMillis}m`, memory: String(spec.memoryLimitBytes), ...devices },
  };
}

function volumes(spec: ServerSpec): V1Volume[] {
  return [
    { name: 'home', ...(spec.claim === null ? { emptyDir: {} } : { persistentVolumeClaim: { claimName: spec.claim } }) },
    { name: 'workspace', emptyDir: {} },
    { name: 'shm', emptyDir: { medium: 'Memory', sizeLimit: String(spec.sharedMemoryBytes) } },
    // Readable by root alone: sshd and Jupyter's start read it, other people's processes need not.
    { name: 'access', secret: { secretName: accessSecretName(spec), defaultMode: 0o400 } },
  ];
}

function mounts(): V1VolumeMount[] {
  return [
    { name: 'home', mountPath: HOME },
    { name: 'workspace', mountPath: '/workspace' },
    { name: 'shm', mountPath: '/dev/shm' },
    { name: 'access', mountPath: ACCESS_FOLDER, readOnly: true },
  ];
}

/** What a tool would otherwise take from the node's core count: a share of 24 cores must not run 192 threads. */
const THREAD_VARIABLES = [
  'OMP_NUM_THREADS',
  'MKL_NUM_THREADS',
  'NUMEXPR_MAX_THREADS',
  'OPENBLAS_NUM_THREADS',
  'GOMAXPROCS',
  'MAX_JOBS',
  'CMAKE_BUILD_PARALLEL_LEVEL',
  'GPU_DEV_THREAD_COUNT',
];

function environment(spec: ServerSpec): V1EnvVar[] {
  const threads = String(Math.max(1, Math.floor(spec.cpuLimitMillis / 1000)));
  const gpu = spec.resource !== null;
  const defaults: Record<string, string> = {
    ...Object.fromEntries(THREAD_VARIABLES.map((name) => [name, threads])),
    MAKEFLAGS: `-j${threads}`,
    ...(gpu ? { NVIDIA_DRIVER_CAPABILITIES: 'compute,utility', NCCL_SOCKET_IFNAME: '^lo,docker' } : {}),
    ...(spec.efaCount > 0 ? { FI_PROVIDER: 'efa', FI_EFA_USE_DEVICE_RDMA: '1', NCCL_NET_GDR_LEVEL: 'SYS' } : {}),
  };
  const facts: Record<string, string> = {
    GPU_DEV_RESERVATION_ID: spec.reservationId,
    GPU_DEV_USER_ID: spec.owner,
    GPU_DEV_NAME: spec.name,
    GPU_TYPE: spec.gpuType,
    GPU_COUNT: String(spec.gpuCount),
    SUPPORTS_EFA: String(spec.efaCount > 0),
    USE_PERSISTENT_DISK: String(spec.claim !== null),
    CREATE_SH_ENV: String(spec.recreateEnv || spec.claim === null),
    ...(spec.command !== null && !spec.preserveEntrypoint ? { GPU_DEV_COMMAND: spec.command } : {}),
    ...(spec.gang === null
      ? {}
      : {
          GPU_DEV_GANG_ID: spec.gang.id,
          NODE_RANK: String(spec.gang.index),
          NNODES: String(spec.gang.size),
        }),
  };
  // `env` wins over `envFrom`: a default gives way to the user's own value, a fact does not.
  const own = spec.environment.reveal();
  const kept = Object.entries(defaults).filter(([name]) => !(name in own));
  return [...kept, ...Object.entries(facts)].map(([name, value]) => ({ name, value: literal(value) }));
}

/** Kubernetes expands $(NAME) in values; ours are meant as they stand. */
const literal = (value: string): string => value.replaceAll('$(', () => '$$(');

/** Everything of a spec that may be seen. `user` documents who may log in. */
function withoutSecrets({ environment: _environment, jupyterToken: _token, authorizedKeys: _keys, ...facts }: ServerSpec) {
  return { ...facts, user: USER.name };
}
