/** What a disk knows: who holds it, where its volume is, and which snapshot is its newest. */
import type { VolumePlace } from './disk.events.ts';

export interface DiskContext {
  id: string;
  owner: string;
  name: string;
  sizeGb: number;
  /** The reservation that holds the disk. */
  holder: string | null;
  /** Life of the holder for which the volume was asked. */
  holderGeneration: number;
  /** Reservations in line. */
  waiters: string[];
  node: string;
  zone: string | null;
  /** Number of the volume or snapshot operation in progress; a result of an earlier one is ignored. */
  round: number;
  claim: string | null;
  /** Where the volume can be used; null if there is none, or its storage has not said it. */
  place: VolumePlace | null;
  /** True once a volume may hold data that no snapshot has. */
  dirty: boolean;
  latestSnapshot: string | null;
  capturing: string | null;
  cloneOf: string | null;
  /** Disks that wait for our newest data. */
  cloners: string[];
  deleteAt: string | null;
  /** The snapshot that the disk is being set back to, and whose wish that was. */
  restore: { snapshotId: string; operationId: string | null } | null;
  operationId: string | null;
  problem: string | null;
}

export interface DiskInput {
  id: string;
  owner: string;
  name: string;
  sizeGb: number;
  cloneOf: string | null;
  operationId: string | null;
  /** What there is of it already; left out: nothing. */
  adopted?: Pick<
    DiskContext,
    'round' | 'claim' | 'latestSnapshot' | 'holder' | 'holderGeneration' | 'node' | 'zone' | 'deleteAt'
  >;
}

/** The context at birth. XState calls the factory without input on every step, so it must bear `undefined`. */
export function newDisk(input: DiskInput | undefined): DiskContext {
  return {
    id: input?.id ?? '',
    owner: input?.owner ?? '',
    name: input?.name ?? '',
    sizeGb: input?.sizeGb ?? 200,
    holder: null,
    holderGeneration: 0,
    waiters: [],
    node: '',
    zone: null,
    round: 0,
    claim: null,
    place: null,
    dirty: false,
    latestSnapshot: null,
    capturing: null,
    cloneOf: input?.cloneOf ?? null,
    cloners: [],
    deleteAt: null,
    restore: null,
    operationId: input?.operationId ?? null,
    problem: null,
    ...input?.adopted,
    // Nobody knows any more whether a snapshot has all that is on it.
    ...(input?.adopted?.claim == null ? {} : { dirty: true }),
  };
}
