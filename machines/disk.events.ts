/** Events and effects of a disk. Its identity is its id; the name is a label that belongs to its owner. */
import { z } from 'zod';
import { type Stamped, shape } from './authoring.ts';

const reservationId = z.string();
/** Operation of the disk queue whose result its sender can look up, or null. */
const operationId = z.string().nullable();
const round = z.number().int();

export const DISK_DEADLINES = ['cloning', 'attaching', 'detaching', 'capturing', 'deletingVolume', 'restoring', 'purge'] as const;

/** Stands for the name of a node among the labels of a {@link VolumePlace}. */
export const NODE_NAME = 'metadata.name';

/** Where a volume can be used, as far as its storage says. */
export const VolumePlace = z.object({
  /** What a node must bear: each label with one of the values. Of several such sets any will do, and without one every node will. */
  anyOf: z.array(z.record(z.string(), z.array(z.string()))),
  /** Its provider can make it anew elsewhere: nodes of its place come first, and others will do. */
  movable: z.boolean(),
});
export type VolumePlace = z.infer<typeof VolumePlace>;

/**
 * A volume that could not be made as large as the disk is to be: the size that it has, and why, for people. `again`: that may pass, so the next
 * use tries again; if not, the disk is as large as its volume.
 */
const StaysSmall = z.object({ sizeGb: z.number().int().positive(), reason: z.string(), again: z.boolean() });
export type StaysSmall = z.infer<typeof StaysSmall>;

/** A snapshot that is to go: of this disk, or of a purged one of the same owner, kept until now for a clone. */
const Retired = z.object({ snapshotId: z.string(), diskId: z.string() });

/** A complete snapshot of this disk that an earlier database knew. */
const Adopted = z.object({
  snapshotId: z.string(),
  reservationId: z.string().nullable(),
  sizeBytes: z.number().nullable(),
  createdAt: z.string(),
});
export type AdoptedSnapshot = z.infer<typeof Adopted>;

export const DiskEvent = z.union([
  z.discriminatedUnion('type', [
    /** The birth of a disk: the row exists before any volume does. */
    shape('disk.created', {
      id: z.string(),
      owner: z.string(),
      name: z.string(),
      sizeGb: z.number().int().positive(),
      cloneOf: z.string().nullable(),
      operationId,
    }),
    /**
     * The birth of a disk that an earlier database knew: what the cluster or the cloud has of it. With `held` a server uses it now; with a claim
     * and without that its volume may hold what no snapshot has.
     */
    shape('disk.adopted', {
      id: z.string(),
      owner: z.string(),
      name: z.string(),
      sizeGb: z.number().int().positive(),
      /** No volume and no snapshot of a number up to this one is made again. */
      round,
      claim: z.string().nullable(),
      latestSnapshot: z.string().nullable(),
      snapshots: z.array(Adopted),
      held: z.object({ reservationId, generation: z.number().int(), node: z.string(), zone: z.string().nullable() }).nullable(),
      deleteAt: z.string().nullable(),
    }),
    shape('disk.acquire', { reservationId, owner: z.string() }),
    shape('disk.release', { reservationId }),
    /** Whoever asks for the disk wants it at least this large: from its next use on. A disk never shrinks. */
    shape('disk.grow', { sizeGb: z.number().int().positive() }),
    shape('disk.attach', { reservationId, generation: z.number().int(), node: z.string(), zone: z.string().nullable() }),
    shape('disk.detach', { reservationId }),
    shape('disk.delete', { by: z.string().nullable(), deleteAt: z.string(), operationId }),
    shape('disk.undelete', { by: z.string().nullable(), operationId }),
    /** Another label; the door has made sure that its owner has no other disk of that name. */
    shape('disk.renamed', { by: z.string().nullable(), name: z.string(), operationId }),
    /** `there` is filled in by the kind's `prepare`, never by a sender: the snapshot is complete, and of this disk. */
    shape('disk.restore', { by: z.string().nullable(), snapshotId: z.string(), operationId, there: z.boolean().optional() }),
    /** Another disk wants to start from our newest data. */
    shape('disk.cloneWanted', { diskId: z.string() }),
    shape('disk.cloneSource', { snapshotId: z.string().nullable() }),
    shape('disk.cloneRefused', { reason: z.string() }),
    /** It has no snapshot to start from yet: why, for people. */
    shape('disk.cloneDelayed', { reason: z.string() }),
    // results of our own effects
    /** `place`: left out or null if the storage has not said where the volume is. `elsewhere`: the node that was granted is not in it. */
    shape('volume.ready', {
      round,
      claim: z.string(),
      place: VolumePlace.nullable().optional(),
      elsewhere: z.boolean().optional(),
      stays: StaysSmall.optional(),
    }),
    /** Data is on its way into it: it goes on. */
    shape('volume.progress', { round, percent: z.number() }),
    shape('volume.failed', { round, reason: z.string() }),
    shape('volume.detached', { round, place: VolumePlace.nullable().optional() }),
    shape('snapshot.progress', { round, percent: z.number() }),
    shape('snapshot.complete', { round, snapshotId: z.string(), sizeBytes: z.number().nullable() }),
    shape('snapshot.failed', { round, reason: z.string() }),
    shape('volume.deleted', { round, kept: z.boolean() }),
    shape('volume.discarded', { round }),
    shape('snapshots.removed', { snapshotIds: z.array(z.string()) }),
    shape('purge.done', { round }),
    /** Time to look for snapshots that are too old. What to remove, and after how many milliseconds to look again: filled in by `prepare`. */
    shape('deadline.retention', { remove: z.array(Retired).optional(), againAfter: z.number().positive().nullable().optional() }),
    /** The cluster has no such volume any more: proven by the API server's own answer. */
    shape('volume.missing', { claim: z.string() }),
    /** Where the volume is, found by the comparison with the cluster. */
    shape('volume.placed', { claim: z.string(), place: VolumePlace }),
  ]),
  z.object({ type: z.enum(DISK_DEADLINES.map((name) => `deadline.${name}` as const)) }),
]);
export type DiskMessage = z.infer<typeof DiskEvent>;
export type DiskEvent = Stamped<DiskMessage>;

/** The closed union of effects of a disk. Nothing that holds data is deleted without `afterSnapshot` or a purge that its owner asked for. */
export const DiskEffect = z.discriminatedUnion('type', [
  /** Create or adopt the volume (from a snapshot, if it has one) and make it usable on the node. */
  shape('volume.ensure', {
    round,
    diskId: z.string(),
    owner: z.string(),
    sizeGb: z.number().int(),
    snapshotId: z.string().nullable(),
    /** A volume with newer data than any snapshot must be there: one that is missing is an error, never made anew. */
    expectVolume: z.boolean(),
    node: z.string(),
    zone: z.string().nullable(),
    /** Its place is not known, or may be another by now. */
    locate: z.boolean().optional(),
  }),
  /**
   * Confirm that nothing writes to the volume and no node holds it.
   * `unused`: if there is one, it was made and never told to a server, so it holds nothing.
   */
  shape('volume.detach', { round, diskId: z.string(), unused: z.boolean().optional(), locate: z.boolean().optional() }),
  /** Take the snapshot of that id, or adopt it, and wait until it is complete. */
  shape('snapshot.take', { round, diskId: z.string(), snapshotId: z.string() }),
  /** Delete the live volume; a provider whose volumes outlive sessions keeps it and says so. */
  shape('volume.delete', { round, diskId: z.string(), afterSnapshot: z.string() }),
  /** Delete the live volume, whatever the provider does at other times, so that a new one starts from another snapshot. */
  shape('volume.discard', { round, diskId: z.string(), afterSnapshot: z.string() }),
  /** Delete snapshots that retention has given up; their rows say so already. */
  shape('snapshots.remove', { diskId: z.string(), snapshots: z.array(Retired) }),
  /** The 30 days are over: delete volume and snapshots that are recorded as this disk's. */
  shape('disk.purge', { round, diskId: z.string() }),
]);
export type DiskEffect = z.infer<typeof DiskEffect>;

/** Rows that a disk writes in the transaction of its turn. */
export const DiskRecord = z.discriminatedUnion('type', [
  shape('snapshot.started', { diskId: z.string(), snapshotId: z.string(), reservationId: z.string().nullable() }),
  shape('snapshots.adopted', { diskId: z.string(), snapshots: z.array(Adopted) }),
  shape('snapshot.completed', { diskId: z.string(), snapshotId: z.string(), sizeBytes: z.number().nullable() }),
  shape('snapshot.failed', { diskId: z.string(), snapshotId: z.string(), reason: z.string() }),
  shape('snapshots.removed', { diskId: z.string(), snapshotIds: z.array(z.string()) }),
  shape('volume.placed', { reservationId, place: VolumePlace }),
  shape('disk.sized', { diskId: z.string(), sizeGb: z.number().int().positive() }),
  shape('operation.ended', {
    operationId: z.string(),
    status: z.enum(['completed', 'failed']),
    error: z.string().nullable(),
    /** A code of the error table; null if it has none. */
    code: z.string().nullable(),
  }),
]);
export type DiskRecord = z.infer<typeof DiskRecord>;
