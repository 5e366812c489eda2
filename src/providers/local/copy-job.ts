/** The Job that copies one volume into another: what it runs and with which rights. It holds no data: its claims do, and they are not its own. */
import { readFileSync } from 'node:fs';
import type { V1ConfigMap, V1Container, V1Job, V1NetworkPolicy, V1ObjectMeta, V1PodSpec } from '@kubernetes/client-node';
import { CONTENTS_SCRIPT, contentsArguments, contentsScript } from '../kubernetes/contents.ts';
import { tolerations } from '../kubernetes/tolerations.ts';
import { ANNOTATION, claimName, copyJobName, LABEL, labelValue } from '../kubernetes/objects.ts';
import { diskLabels, snapshotName } from './volume-snapshots.ts';

export interface CopySettings {
  /** An image with GNU coreutils and findutils, by a version or a digest. */
  image: string;
  /** PriorityClass of the pods; null leaves it to the cluster. */
  priorityClass: string | null;
  /** Seconds that a copy may take. Less than the disk waits for its snapshot, so that no copy outlives that. */
  limitSeconds: number;
  /** A pod that has not begun for so many milliseconds has no node, no image or no volume, and will get none. */
  patienceMs: number;
  /** How often a pod that was killed, or whose node is gone, is followed by another. */
  retries: number;
  /** Annotations of the Jobs, for what watches or steers them. */
  annotations: Record<string, string>;
}

export const COPY_DEFAULTS: CopySettings = {
  image: 'debian:12.11-slim',
  priorityClass: null,
  limitSeconds: 21_000,
  patienceMs: 30 * 60_000,
  retries: 4,
  annotations: {},
};

/** One of the two claims of a copy. */
export interface CopyEnd {
  claim: string;
  uid: string;
}

export interface CopyRequest {
  /** `save` copies a disk to its snapshot, `fill` a snapshot to a new disk. */
  mode: 'save' | 'fill';
  /** The disk that is copied from, or to. */
  diskId: string;
  snapshotId: string;
  source: CopyEnd;
  target: CopyEnd;
}

export type CopyId = Pick<CopyRequest, 'mode' | 'diskId' | 'snapshotId'>;

export const COPY_CONTAINER = 'copy';
const SCRIPT = readFileSync(new URL('copy-scripts/copy.sh', import.meta.url), 'utf8');
const SCRIPTS_FOLDER = '/etc/gpu-dev/copy';
/** Where the script finds the two volumes, and where it may write notes: its own defaults. */
const FOLDERS = { source: '/source', target: '/target', work: '/work' };
/** How long a pod stays on a node that no longer answers. */
const LOST_NODE_SECONDS = 60;
/** How long a copy may look for what is on its disk, beside copying it. */
const CONTENTS_SECONDS = 30;

/** Labels of everything around a copy. */
export function copyLabels({ mode, diskId, snapshotId }: CopyId): Record<string, string> {
  return { ...diskLabels(diskId), [LABEL.copy]: mode, [LABEL.snapshot]: labelValue(snapshotName(snapshotId)) };
}

/** Whether the Job is this copy, between whichever claims. */
export function isOf(job: V1Job, { mode, diskId, snapshotId }: CopyId): boolean {
  const { labels = {}, annotations = {} } = job.metadata ?? {};
  return (
    Object.entries(diskLabels(diskId)).every(([name, value]) => labels[name] === value) &&
    labels[LABEL.copy] === mode &&
    annotations[ANNOTATION.snapshot] === snapshotId
  );
}

const uidsOf = ({ source, target }: Pick<CopyRequest, 'source' | 'target'>): string => `${source.uid} ${target.uid}`;

/** Whether it copies between exactly these claims: others may bear their names by now. */
export function isBetween(job: V1Job, ends: Pick<CopyRequest, 'source' | 'target'>): boolean {
  return job.metadata?.annotations?.[ANNOTATION.claims] === uidsOf(ends);
}

/** Whether it copies into exactly this claim. */
export function isInto(job: V1Job, uid: string): boolean {
  return job.metadata?.annotations?.[ANNOTATION.claims]?.split(' ')[1] === uid;
}

/** The Job of a copy. */
export function jobOf(request: CopyRequest, settings: CopySettings, namespace: string): V1Job {
  const { mode, diskId, snapshotId } = request;
  const labels = copyLabels(request);
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {
      name: copyJobName(mode, diskId, snapshotId),
      namespace,
      labels,
      annotations: {
        ...settings.annotations,
        [ANNOTATION.snapshot]: snapshotId,
        [ANNOTATION.claims]: uidsOf(request),
      },
    },
    spec: {
      backoffLimit: settings.retries,
      activeDeadlineSeconds: settings.limitSeconds,
      ttlSecondsAfterFinished: 3600,
      template: {
        // The claim of the disk stands on its users, so that whoever asks for them finds this one.
        metadata: { labels: { ...labels, [LABEL.claim]: claimName(diskId) } },
        spec: podOf(request, settings),
      },
    },
  };
}

function podOf(request: CopyRequest, { image, priorityClass }: CopySettings): V1PodSpec {
  return {
    restartPolicy: 'Never',
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    // What was cut off does not count, so there is nothing to be finished.
    terminationGracePeriodSeconds: 1,
    ...(priorityClass === null ? {} : { priorityClassName: priorityClass }),
    affinity: {
      nodeAffinity: {
        // Where the volumes are, or can be, the scheduler knows; of those nodes rather one without GPUs.
        preferredDuringSchedulingIgnoredDuringExecution: [
          { weight: 100, preference: { matchExpressions: [{ key: 'NodeType', operator: 'In', values: ['cpu'] }] } },
        ],
      },
    },
    tolerations: tolerations(LOST_NODE_SECONDS),
    securityContext: { seccompProfile: { type: 'RuntimeDefault' } },
    containers: [container(request, image)],
    volumes: [
      // Read-only as a mount, not as an attachment: a file system that was not unmounted must mend its journal first.
      { name: 'source', persistentVolumeClaim: { claimName: request.source.claim } },
      { name: 'target', persistentVolumeClaim: { claimName: request.target.claim } },
      { name: 'work', emptyDir: { sizeLimit: '16Mi' } },
      { name: 'scripts', configMap: { name: copyJobName(request.mode, request.diskId, request.snapshotId), defaultMode: 0o555 } },
    ],
  };
}

function container({ mode, snapshotId }: CopyRequest, image: string): V1Container {
  return {
    name: COPY_CONTAINER,
    image,
    command: ['/bin/sh', `${SCRIPTS_FOLDER}/copy.sh`, mode],
    env: [
      { name: 'SNAPSHOT', value: snapshotName(snapshotId) },
      { name: 'CONTENTS', value: contentsArguments(FOLDERS.source, CONTENTS_SECONDS).slice(1).join(' ') },
      // Each try is another.
      { name: 'RUN', valueFrom: { fieldRef: { fieldPath: 'metadata.uid' } } },
    ],
    resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { memory: '1Gi' } },
    terminationMessagePolicy: 'FallbackToLogsOnError',
    securityContext: {
      // Files of all owners are read, and made with their owners, modes and capabilities; nothing more.
      runAsUser: 0,
      runAsGroup: 0,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'], add: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'SETFCAP'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
    volumeMounts: [
      { name: 'source', mountPath: FOLDERS.source, readOnly: true },
      { name: 'target', mountPath: FOLDERS.target },
      { name: 'work', mountPath: FOLDERS.work },
      { name: 'scripts', mountPath: SCRIPTS_FOLDER, readOnly: true },
    ],
  };
}

/**
 * What stands around the pod and goes with its Job: a policy that lets nothing in and nothing out, and the script, which the pod waits for.
 * The script is to come last.
 */
export function aroundOf(job: V1Job, request: CopyId): { policy: V1NetworkPolicy; scripts: V1ConfigMap } {
  const { name = '', namespace = '', uid = '' } = job.metadata ?? {};
  const metadata: V1ObjectMeta = {
    name,
    namespace,
    labels: copyLabels(request),
    ownerReferences: [{ apiVersion: 'batch/v1', kind: 'Job', name, uid }],
  };
  return {
    policy: { metadata, spec: { podSelector: { matchLabels: { 'job-name': name } }, policyTypes: ['Ingress', 'Egress'] } },
    scripts: { metadata, immutable: true, data: { 'copy.sh': SCRIPT, [CONTENTS_SCRIPT]: contentsScript() } },
  };
}
