/**
 * What the provider conformance suite is run against: providers of one kind on a cluster of one kind. Every provider and every cluster passes
 * the same suite; where a simulated cluster and a real API server differ, the simulation is wrong.
 */
import type { ClusterEvents } from '../../../actors/gpu-pool/ports.ts';
import type { Volumes } from '../../../actors/disk/ports.ts';
import type { ImageBuilder } from '../../../actors/image/ports.ts';
import type { DevServers } from '../../../actors/reservation/ports.ts';
import { KubernetesEvents } from '../../../src/providers/kubernetes/cluster-events.ts';
import type { KubernetesClient } from '../../../src/providers/kubernetes/client.ts';
import { KubernetesDevServers } from '../../../src/providers/kubernetes/dev-servers.ts';
import { nodeGone } from '../../../src/providers/kubernetes/nodes.ts';
import { JobBuilder } from '../../../src/providers/local/builds.ts';
import type { SnapshotKind, SnapshotSetting } from '../../../src/providers/local/snapshot-kind.ts';
import { LocalVolumes } from '../../../src/providers/local/volumes.ts';
import type { FaultProxy } from '../../support/kubernetes/fault-proxy.ts';

/** A cluster with the nodes h100-1, h100-2 and cpu-x86-1, and nobody else at work on it. */
export interface ClusterUnderTest {
  name: string;
  /** Why it cannot be had here; empty if it can. */
  missing: string;
  open(): Promise<OpenCluster>;
}

export interface OpenCluster {
  /** Straight to the cluster, in a namespace that is empty at first. */
  client: KubernetesClient;
  /** A client that goes through a proxy of its own. */
  faulty(options?: { requestTimeoutMs?: number }): Promise<{ client: KubernetesClient; proxy: FaultProxy }>;
  /** Make something happen that no API call does: `pods/NAME/oom` (fail), `nodes/NAME/cordon` (uncordon). */
  befall(what: string): Promise<void>;
  /** Make the API server forget all changes so far: a watch that stands there is answered with 410. */
  forget(): Promise<void>;
  close(): Promise<void>;
}

/** One implementation of every port. */
export interface ProvidersUnderTest {
  name: string;
  servers(client: KubernetesClient): DevServers;
  /** How it takes snapshots of volumes. */
  snapshots: SnapshotKind | 'ebs';
  volumes(client: KubernetesClient, options?: VolumeOptions): Volumes;
  builder(client: KubernetesClient, options: { repository?: string; annotations?: Record<string, string> }): ImageBuilder;
  events(client: KubernetesClient, options: EventOptions): ClusterEvents;
  nodeGone(client: KubernetesClient, node: string): Promise<boolean>;
}

export interface VolumeOptions {
  snapshots?: SnapshotSetting;
  storageClass?: string;
  /** How its Jobs are to behave: annotations of the simulation. */
  annotations?: Record<string, string>;
  /** How long a copy may wait for its place, in milliseconds. */
  patienceMs?: number;
  retries?: number;
  image?: string;
}

export interface EventOptions {
  pageSize?: number;
  idleTimeoutMs?: number;
  onError?: (what: string, error: unknown) => void;
}

/** Both of them, opened: what the suite's parts are given. */
export type Subject = OpenCluster & ProvidersUnderTest;

/** The providers for plain Kubernetes. */
export const local: ProvidersUnderTest = {
  name: 'local',
  snapshots: 'volume-snapshots',
  servers: (client) => new KubernetesDevServers({ client }),
  volumes: (client, { snapshots = 'auto', storageClass, ...copies } = {}) =>
    new LocalVolumes({ client, snapshots, copies, ...(storageClass === undefined ? {} : { storageClass }) }),
  builder: (client, options) => new JobBuilder({ client, ...options }),
  events: (client, options) => new KubernetesEvents({ client, ...options }),
  nodeGone,
};

/** The same where the cluster takes no snapshots: it finds that out by itself. */
export const localWithCopies: ProvidersUnderTest = { ...local, name: 'local, with copies for snapshots', snapshots: 'copy' };
