/** The pod of a dev server: a pure function of its spec. */
import type { V1Container, V1Pod, V1Probe } from '@kubernetes/client-node';
import type { ServerSpec } from '../../../actors/reservation/ports.ts';
import { PORTS, USER } from './layout.ts';
import { tolerations } from './tolerations.ts';
import {
  ANNOTATION,
  environmentSecretName,
  hostLabel,
  LABEL,
  labelValue,
  MAIN_CONTAINER,
  podName,
  SERVER_APP,
  serverLabels,
} from './objects.ts';
import { environment } from './pod-environment.ts';
import { securityContext } from './pod-rights.ts';
import { mounts, type SharedVolume, volumes } from './pod-volumes.ts';
import { SCRIPTS_VERSION, scriptCall } from './scripts.ts';

export interface PodSettings {
  namespace: string;
  /** Image of servers that name none. */
  defaultImage: string;
  imagePullPolicy: 'Always' | 'IfNotPresent' | 'Never';
  /** PriorityClass of dev servers; null leaves it to the cluster. */
  priorityClass: string | null;
  sharedVolume: SharedVolume | null;
  /** NFS server of the owner's own files, in place of their folder on the shared volume. */
  personalServer: string | null;
  /** The name by which nodes pull an image: the one that people know, or that of a copy nearby. */
  imageName: (image: string) => string;
}

export const POD_DEFAULTS: PodSettings = {
  namespace: 'gpu-dev',
  defaultImage: 'pytorch/pytorch:2.8.0-cuda12.9-cudnn9-devel',
  imagePullPolicy: 'IfNotPresent',
  priorityClass: null,
  sharedVolume: null,
  personalServer: null,
  imageName: (image) => image,
};

/** How long a pod stays on a node that no longer answers, in seconds: with the cluster's own delay, its user is told within a minute or so. */
const LOST_NODE_SECONDS = 30;

/** The same spec always gives the same pod. Values of the user's environment are not in it: they are in a Secret beside it. */
export function podOf(spec: ServerSpec, settings: PodSettings): V1Pod {
  const labels: Record<string, string> = {
    [LABEL.app]: SERVER_APP,
    ...serverLabels(spec),
    [LABEL.owner]: labelValue(spec.owner),
    [LABEL.name]: labelValue(spec.name),
    [LABEL.scripts]: SCRIPTS_VERSION,
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
      // A server that ran out of memory comes back with its disk, its keys and its scratch space.
      restartPolicy: 'OnFailure',
      terminationGracePeriodSeconds: 30,
      automountServiceAccountToken: false,
      // Else each Service of the namespace adds seven variables, and with thousands of servers exec fails by their size.
      enableServiceLinks: false,
      ...(settings.priorityClass === null ? {} : { priorityClassName: settings.priorityClass }),
      // Hard, all of them: a server that lands elsewhere is not what was asked for.
      nodeSelector: { ...spec.nodeLabels, GpuType: spec.gpuType },
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [spec.node] }] }],
          },
        },
      },
      tolerations: tolerations(LOST_NODE_SECONDS),
      securityContext: { seccompProfile: { type: 'RuntimeDefault' } },
      containers: [container(spec, settings)],
      volumes: volumes(spec, settings.sharedVolume, settings.personalServer),
    },
  };
}

function container(spec: ServerSpec, settings: PodSettings): V1Container {
  const own = spec.preserveEntrypoint;
  const hasEnvironment = Object.keys(spec.environment.reveal()).length > 0;
  const { namespace, sharedVolume, personalServer } = settings;
  return {
    name: MAIN_CONTAINER,
    image: settings.imageName(spec.image ?? settings.defaultImage),
    imagePullPolicy: settings.imagePullPolicy,
    ...(own ? {} : { command: scriptCall('start.sh') }),
    ...(own && spec.command !== null ? { args: ['/bin/sh', '-c', spec.command] } : {}),
    env: environment(spec, { namespace, shared: sharedVolume !== null }),
    ...(hasEnvironment ? { envFrom: [{ secretRef: { name: environmentSecretName(spec) } }] } : {}),
    ports: [{ name: 'ssh', containerPort: PORTS.ssh, protocol: 'TCP' }],
    resources: resources(spec),
    volumeMounts: mounts(spec, sharedVolume, personalServer),
    securityContext: securityContext(spec),
    // Why it ended reaches the user by the pod's status.
    terminationMessagePolicy: 'FallbackToLogsOnError',
    // An image with its own entry point need not speak ssh: there, ready means that its container runs.
    ...(own ? {} : probes()),
  };
}

function probes(): { startupProbe: V1Probe; readinessProbe: V1Probe; livenessProbe: V1Probe } {
  const tcpSocket = { port: PORTS.ssh };
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

/** Everything of a spec that may be seen. `user` documents who may log in. */
function withoutSecrets({ environment: _environment, jupyterToken: _token, authorizedKeys: _keys, ...facts }: ServerSpec) {
  return { ...facts, user: USER.name };
}
