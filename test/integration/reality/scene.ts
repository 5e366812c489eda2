/** Objects on a cluster that nobody made by the ordinary way, and comparisons under a clock that the test moves. */
import type { V1ObjectMeta } from '@kubernetes/client-node';
import { sweep, type SweepSettings } from '../../../actors/reality/sweep.ts';
import type { ClusterKind } from '../../../actors/reality/ports.ts';
import type { Database } from '../../../persistence/database.ts';
import type { Message } from '../../../persistence/mailbox.ts';
import type { Report, ReportLine } from '../../../persistence/reality.ts';
import type { KubernetesClient } from '../../../src/providers/kubernetes/client.ts';
import { ANNOTATION, LABEL, MANAGED_BY, serverLabels } from '../../../src/providers/kubernetes/objects.ts';
import { KubernetesReality } from '../../../src/providers/kubernetes/reality.ts';

export const GRACE_MS = 15 * 60_000;

/** Labels by which an object says whose it is. */
export const marks = {
  server: (reservationId: string, generation = 1): V1ObjectMeta => ({ labels: serverLabels({ reservationId, generation }) }),
  disk: (diskId: string): V1ObjectMeta => ({ labels: { [LABEL.managedBy]: MANAGED_BY, [LABEL.disk]: diskId } }),
  copy: (diskId: string, snapshot: string): V1ObjectMeta => ({
    labels: { [LABEL.managedBy]: MANAGED_BY, [LABEL.disk]: diskId, [LABEL.snapshot]: snapshot },
    annotations: { [ANNOTATION.snapshot]: snapshot },
  }),
  build: (hash: string, attempt: number): V1ObjectMeta => ({
    labels: { [LABEL.managedBy]: MANAGED_BY, [LABEL.build]: hash, [LABEL.attempt]: String(attempt) },
    annotations: { [ANNOTATION.build]: hash },
  }),
  ours: (): V1ObjectMeta => ({ labels: { [LABEL.managedBy]: MANAGED_BY } }),
  strange: (): V1ObjectMeta => ({ labels: { 'app.kubernetes.io/managed-by': 'Helm' } }),
};

const SNAPSHOTS = { group: 'snapshot.storage.k8s.io', version: 'v1', plural: 'volumesnapshots' };

export class Planted {
  readonly #client: KubernetesClient;

  constructor(client: KubernetesClient) {
    this.#client = client;
  }

  /** Put an object of this kind there. */
  async put(kind: ClusterKind, name: string, mark: V1ObjectMeta): Promise<void> {
    const { core, batch, networking, custom, namespace } = this.#client;
    const metadata = { name, ...mark };
    const containers = [{ name: 'gpu-dev', image: 'i' }];
    const made: Record<ClusterKind, () => Promise<unknown>> = {
      Pod: () => core.createNamespacedPod({ namespace, body: { metadata, spec: { containers } } }),
      Service: () => core.createNamespacedService({ namespace, body: { metadata, spec: { ports: [{ port: 22 }] } } }),
      Secret: () => core.createNamespacedSecret({ namespace, body: { metadata, type: 'Opaque' } }),
      ConfigMap: () => core.createNamespacedConfigMap({ namespace, body: { metadata } }),
      NetworkPolicy: () =>
        networking.createNamespacedNetworkPolicy({
          namespace,
          body: { metadata, spec: { podSelector: {}, policyTypes: ['Ingress'] } },
        }),
      Job: () =>
        batch.createNamespacedJob({
          namespace,
          body: {
            metadata: { ...metadata, annotations: { ...metadata.annotations, 'simulation.gpu-dev/never-ready': 'true' } },
            spec: { template: { spec: { restartPolicy: 'Never', nodeSelector: { nowhere: 'x' }, containers } } },
          },
        }),
      PersistentVolumeClaim: () =>
        core.createNamespacedPersistentVolumeClaim({
          namespace,
          body: { metadata, spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } } },
        }),
      VolumeSnapshot: () =>
        custom.createNamespacedCustomObject({
          ...SNAPSHOTS,
          namespace,
          body: {
            apiVersion: 'snapshot.storage.k8s.io/v1',
            kind: 'VolumeSnapshot',
            metadata,
            spec: { source: { persistentVolumeClaimName: 'none' } },
          },
        }),
    };
    await made[kind]();
  }

  /** Whether it is there, and is not on its way out. */
  async has(kind: ClusterKind, name: string): Promise<boolean> {
    const { core, batch, networking, custom, namespace } = this.#client;
    const read: Record<ClusterKind, () => Promise<unknown>> = {
      Pod: () => core.readNamespacedPod({ namespace, name }),
      Service: () => core.readNamespacedService({ namespace, name }),
      Secret: () => core.readNamespacedSecret({ namespace, name }),
      ConfigMap: () => core.readNamespacedConfigMap({ namespace, name }),
      NetworkPolicy: () => networking.readNamespacedNetworkPolicy({ namespace, name }),
      Job: () => batch.readNamespacedJob({ namespace, name }),
      PersistentVolumeClaim: () => core.readNamespacedPersistentVolumeClaim({ namespace, name }),
      VolumeSnapshot: () => custom.getNamespacedCustomObject({ ...SNAPSHOTS, namespace, name }),
    };
    try {
      return ((await read[kind]()) as { metadata?: V1ObjectMeta }).metadata?.deletionTimestamp === undefined;
    } catch (error) {
      if ((error as { code?: number }).code === 404) return false;
      throw error;
    }
  }
}

/** Comparisons by hand, under a clock of their own. */
export class Comparisons {
  now = new Date('2026-05-01T10:00:00Z');
  readonly errors: unknown[] = [];
  readonly posted: Message[] = [];
  readonly #settings: SweepSettings;

  constructor(db: Database, client: KubernetesClient, more: Partial<SweepSettings> = {}) {
    this.#settings = {
      db,
      reality: new KubernetesReality({ client, pageSize: 3 }),
      clock: { now: () => this.now },
      graceMs: GRACE_MS,
      lease: null,
      isOver: () => false,
      post: async (messages) => void this.posted.push(...messages),
      onError: (error) => this.errors.push(error),
      ...more,
    };
  }

  compare(dryRun = false): Promise<Report> {
    return sweep(this.#settings, { dryRun });
  }

  pass(milliseconds: number): void {
    this.now = new Date(this.now.getTime() + milliseconds);
  }
}

/** What was said of this object; undefined if nothing was. */
export function lineOf(report: Report, name: string): Pick<ReportLine, 'verdict' | 'action'> | undefined {
  const line = report.findings.find((each) => each.name === name);
  return line && { verdict: line.verdict, action: line.action };
}
