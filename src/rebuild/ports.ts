/** What the rebuild of a database needs of the cluster and the cloud: complete lists of what is ours, and a place to keep records. */
import type { PodView } from '../../actors/gpu-pool/ports.ts';
import type { Transaction } from '../../persistence/database.ts';

/** The pod of a dev server, by its labels. */
export interface FoundServer {
  pod: string;
  uid: string;
  reservationId: string;
  generation: number;
  /** As its annotation says; null if it has none. */
  owner: string | null;
  node: string | null;
  /** The claim that it mounts as its home. */
  claim: string | null;
  terminating: boolean;
  ready: boolean;
  record: string | null;
}

/** Where a disk's data is while a server uses it, and on some providers also between. */
export interface FoundVolume {
  /** Its own name, where it is. */
  name: string;
  diskId: string;
  claim: string;
  owner: string | null;
  /** The disk's name as it was when this was made or told last; null if it does not say. */
  diskName: string | null;
  sizeGb: number;
  createdAt: string;
  /** Among the volumes of its disk. */
  generation: number;
  /** Some machine holds it, as far as its provider counts that. */
  attached: boolean;
  /** Why it is not the disk's now, in words; null if it may be. */
  unfit: string | null;
  record: string | null;
}

export interface FoundSnapshot {
  name: string;
  /** Our own id. */
  snapshotId: string;
  diskId: string;
  owner: string | null;
  diskName: string | null;
  /** The volume that it was taken of, by its own name; null where a disk has one volume for ever. */
  volume: string | null;
  /** Number of that volume; 0 where they are not counted. */
  generation: number;
  complete: boolean;
  sizeGb: number;
  sizeBytes: number | null;
  createdAt: string;
  record: string | null;
}

export interface FoundDisks {
  volumes: FoundVolume[];
  snapshots: FoundSnapshot[];
  /** What bears our marks and is left as it is, with the reason; with a disk's id: it matters only as long as that disk is not known. */
  ignored: { name: string; why: string; diskId?: string }[];
}

/** A name in DNS and a way to Jupyter that stand for a server. */
export interface FoundNames {
  fqdn: string | null;
  zone: string | null;
  way: { loadBalancer: string; place: number; rule: string; targetGroup: string } | null;
}

/** What a server has that stands in no record, since nobody may see it. */
export interface ServerSecrets {
  environment: Record<string, string>;
  jupyterToken: string | null;
}

/** Where the record of a disk is kept: with its volume, or with the snapshot that it would start from. */
export type DiskCarrier = { volume: string } | { snapshot: string };

/** Disks and what is kept of them. */
export interface DiskRemains {
  /** Complete, or it throws. */
  find(): Promise<FoundDisks>;
  /** Name of the volume that a claim of the cluster leads to, as `find` has it; null: to none. */
  behind(claim: string): Promise<string | null>;
  /** Where the record of this disk belongs; null: nowhere, for there is nothing of it. */
  carrierOf(disk: { id: string; claim: string | null; latest: string | null }): DiskCarrier | null;
  /** Keep it there. @returns false if there is no such thing (yet) */
  keep(diskId: string, carrier: DiskCarrier, record: string): Promise<boolean>;
  /** Put on record what the provider has of the disk, in the transaction that takes it over. */
  adopt(tx: Transaction, diskId: string, volume: FoundVolume | null, snapshots: readonly FoundSnapshot[]): Promise<void>;
}

/** All that remains when a database is lost. */
export interface Remains {
  disks: DiskRemains;
  /** Pods of dev servers. Complete, or it throws. */
  servers(): Promise<FoundServer[]>;
  secretsOf(server: { reservationId: string; generation: number }): Promise<ServerSecrets>;
  /** The pod as the tracker sees it; null if there is none. */
  viewOf(pod: string): Promise<PodView | null>;
  /** Keep the record beside exactly this pod. @returns false if it is gone */
  keepServer(server: { pod: string; uid: string }, record: string): Promise<boolean>;
  /** Names and ways by reservation; null where there are none. */
  names(): Promise<ReadonlyMap<string, FoundNames> | null>;
}
