/** The pure table from a disk's named action to its intents. */
import { address, clear, deadline, effect, HOUR, type Intent, later, limitEnd, MINUTE, send } from './authoring.ts';
import type { DiskEffect, DiskEvent, DiskRecord } from './disk.events.ts';
import type { DiskActionName, DiskContext } from './disk.machine.ts';

/** Time limits from entry of the state, in milliseconds. */
export const DISK_LIMITS = {
  cloning: 30 * MINUTE,
  attaching: 30 * MINUTE,
  detaching: 10 * MINUTE,
  capturing: 6 * HOUR,
  deletingVolume: 10 * MINUTE,
  restoring: 10 * MINUTE,
} as const;

/** How soon after a session it is looked for snapshots that are too old. */
const RETENTION_AFTER = MINUTE;

type Answer = Intent<DiskEffect>[];

function record(entry: DiskRecord): Answer {
  return [{ do: 'record', entry }];
}

function ended(operationId: string | null, failure: { error: string; code: string } | null): Answer {
  if (operationId === null) return [];
  const { error, code } = failure ?? { error: null, code: null };
  return record({ type: 'operation.ended', operationId, status: failure === null ? 'completed' : 'failed', error, code });
}

function operation(event: DiskEvent, context: DiskContext, failure: { error: string; code: string } | null): Answer {
  return ended('operationId' in event ? event.operationId : context.operationId, failure);
}

/** Who has the disk, for people. */
function whyTaken(context: DiskContext): string {
  const id = context.holder ?? context.waiters[0];
  return id === undefined
    ? `The disk ${context.name} is being cloned, saved or restored just now; try again`
    : `The disk ${context.name} is in use by reservation ${id}`;
}

const toReservation = (id: string | null, event: { type: string; [key: string]: unknown }): Answer =>
  id === null ? [] : [send(address('reservation', id), event)];
const toDisk = (id: string, event: { type: string; [key: string]: unknown }): Answer => [send(address('disk', id), event)];

/** A volume stays where it is, unless its provider may have made it anew elsewhere. */
const isToLocate = (place: DiskContext['place']): boolean => place === null || place.movable;

/** Meaning of each named action. `before` is the context before the step. */
const meanings: Record<DiskActionName, (context: DiskContext, event: DiskEvent, before: DiskContext) => Answer> = {
  tellAcquired: (context) => toReservation(context.holder, { type: 'disk.acquired' }),
  /** Busy is a disk that another reservation holds or waits for. One that is being cloned is only not ready yet. */
  tellBusy: (context, event) => {
    if (!('reservationId' in event)) return [];
    const ahead = context.holder ?? context.waiters[0] ?? event.reservationId;
    return ahead === event.reservationId ? [] : toReservation(event.reservationId, { type: 'disk.busy', holder: ahead });
  },
  tellUnavailable: (context, event, before) => {
    const asks = 'reservationId' in event;
    const deleted = `The disk ${context.name} is deleted; undelete it first, or take another name`;
    const reason = asks ? deleted : (context.problem ?? deleted);
    const asked = asks ? [event.reservationId] : before.waiters;
    return asked.flatMap((id) => toReservation(id, { type: 'disk.unavailable', reason }));
  },
  ensureVolume: ({ round, id, owner, sizeGb, latestSnapshot, dirty, claim, node, zone, place }) => {
    const expectVolume = dirty || claim !== null;
    return [
      effect(
        {
          type: 'volume.ensure',
          round,
          diskId: id,
          owner,
          sizeGb,
          snapshotId: latestSnapshot,
          expectVolume,
          node,
          zone,
          locate: isToLocate(place),
        },
        { lane: 'volume', replaces: true },
      ),
    ];
  },
  tellAttached: ({ holder, claim, holderGeneration: generation }, event) => {
    const elsewhere = event.type === 'volume.ready' && event.elsewhere === true ? { elsewhere: true } : {};
    return toReservation(holder, { type: 'disk.attached', claim, generation, ...elsewhere });
  },
  tellAttachFailed: (context) =>
    toReservation(context.holder, {
      type: 'disk.attachFailed',
      reason: `The disk ${context.name} could not be attached: ${context.problem}`,
      generation: context.holderGeneration,
    }),
  detachVolume: ({ round, id, dirty, claim, place }) => {
    const unused = dirty || claim !== null ? { locate: isToLocate(place) } : { unused: true };
    return [effect({ type: 'volume.detach', round, diskId: id, ...unused }, { lane: 'volume', replaces: true })];
  },
  tellDetached: (_context, _event, before) => toReservation(before.holder, { type: 'disk.detached' }),
  takeSnapshot: ({ round, id, capturing, holder }) =>
    capturing === null
      ? []
      : [
          effect({ type: 'snapshot.take', round, diskId: id, snapshotId: capturing }, { lane: 'volume', replaces: true }),
          ...record({ type: 'snapshot.started', diskId: id, snapshotId: capturing, reservationId: holder }),
        ],
  tellProgress: ({ holder, holderGeneration: generation }, event) =>
    event.type === 'snapshot.progress'
      ? toReservation(holder, { type: 'disk.progress', percent: event.percent })
      : event.type === 'volume.progress'
        ? toReservation(holder, { type: 'disk.filling', percent: event.percent, generation })
        : [],
  /** A volume that is left in another zone is made anew in that of the node; that takes its time. */
  tellMoving: ({ holder, holderGeneration: generation, place, zone }) => {
    const zones = place?.movable === true ? place.anyOf.flatMap((labels) => Object.values(labels).flat()) : [];
    if (zone === null || zones.length === 0 || zones.includes(zone)) return [];
    return toReservation(holder, { type: 'disk.moving', generation, from: zones.join(', '), to: zone });
  },
  /** Who holds the disk may wait for capacity already. */
  recordPlace: ({ holder, place }) =>
    holder === null || place === null ? [] : record({ type: 'volume.placed', reservationId: holder, place }),
  recordSize: ({ id, sizeGb }, _event, before) =>
    sizeGb === before.sizeGb ? [] : record({ type: 'disk.sized', diskId: id, sizeGb }),
  recordCaptured: (context, event) =>
    event.type === 'snapshot.complete'
      ? record({ type: 'snapshot.completed', diskId: context.id, snapshotId: event.snapshotId, sizeBytes: event.sizeBytes })
      : [],
  tellCaptured: (context, event) =>
    event.type === 'snapshot.complete'
      ? toReservation(context.holder, { type: 'disk.captured', snapshotId: event.snapshotId })
      : [],
  /** No volume was ever ready, so there is nothing newer than the last snapshot. */
  tellNothingToCapture: (context, _event, before) =>
    toReservation(before.holder, { type: 'disk.captured', snapshotId: context.latestSnapshot }),
  recordCaptureFailed: (context, _event, before) =>
    before.capturing === null
      ? []
      : record({
          type: 'snapshot.failed',
          diskId: context.id,
          snapshotId: before.capturing,
          reason: context.problem ?? 'unknown',
        }),
  tellCaptureFailed: (context, _event, before) =>
    toReservation(before.holder, { type: 'disk.captureFailed', reason: context.problem ?? 'unknown' }),
  deleteVolume: ({ round, id, latestSnapshot }) =>
    latestSnapshot === null
      ? []
      : [effect({ type: 'volume.delete', round, diskId: id, afterSnapshot: latestSnapshot }, { lane: 'volume', replaces: true })],
  discardVolume: ({ round, id, latestSnapshot }) =>
    latestSnapshot === null
      ? []
      : [
          effect(
            { type: 'volume.discard', round, diskId: id, afterSnapshot: latestSnapshot },
            { lane: 'volume', replaces: true },
          ),
        ],
  limitCloning: (_context, event) => [deadline('cloning', limitEnd(event, DISK_LIMITS.cloning))],
  limitAttaching: (_context, event) => [deadline('attaching', limitEnd(event, DISK_LIMITS.attaching))],
  limitDetaching: (_context, event) => [deadline('detaching', limitEnd(event, DISK_LIMITS.detaching))],
  limitCapturing: (_context, event) => [deadline('capturing', limitEnd(event, DISK_LIMITS.capturing))],
  limitDeletingVolume: (_context, event) => [deadline('deletingVolume', limitEnd(event, DISK_LIMITS.deletingVolume))],
  limitRestoring: (_context, event) => [deadline('restoring', limitEnd(event, DISK_LIMITS.restoring))],
  clearCloning: () => clear('cloning'),
  clearAttaching: () => clear('attaching'),
  clearDetaching: () => clear('detaching'),
  clearCapturing: () => clear('capturing'),
  clearDeletingVolume: () => clear('deletingVolume'),
  clearRestoring: () => clear('restoring'),
  setPurge: (context) => (context.deleteAt === null ? [] : [deadline('purge', context.deleteAt)]),
  clearPurge: () => clear('purge'),
  purge: ({ round, id }) => [effect({ type: 'disk.purge', round, diskId: id }, { lane: 'volume', replaces: true })],
  askCloneSource: (context) =>
    context.cloneOf === null ? [] : toDisk(context.cloneOf, { type: 'disk.cloneWanted', diskId: context.id }),
  answerCloner: (context, event) =>
    event.type === 'disk.cloneWanted'
      ? toDisk(event.diskId, { type: 'disk.cloneSource', snapshotId: context.latestSnapshot })
      : [],
  /** Those whom a failed snapshot has refused already are not answered; data that no snapshot has is never cloned as an empty disk. */
  answerCloners: (context, event, before) =>
    event.type === 'snapshot.failed' || event.type === 'deadline.capturing'
      ? []
      : context.latestSnapshot === null && context.dirty
        ? before.cloners.flatMap((id) =>
            toDisk(id, { type: 'disk.cloneRefused', reason: `${context.name} holds data that no snapshot has yet; try again` }),
          )
        : before.cloners.flatMap((id) => toDisk(id, { type: 'disk.cloneSource', snapshotId: context.latestSnapshot })),
  tellClonerWhy: (context, event) =>
    event.type === 'disk.cloneWanted'
      ? toDisk(event.diskId, { type: 'disk.cloneDelayed', reason: `It waits for a first snapshot. ${whyTaken(context)}` })
      : [],
  refuseCloner: (context, event) =>
    event.type === 'disk.cloneWanted'
      ? toDisk(event.diskId, { type: 'disk.cloneRefused', reason: `The disk ${context.name} is deleted` })
      : [],
  refuseCloners: (context, _event, before) =>
    before.cloners.flatMap((id) =>
      toDisk(id, { type: 'disk.cloneRefused', reason: `No snapshot of ${context.name} could be taken: ${context.problem}` }),
    ),
  operationDone: (context, event) => operation(event, context, null),
  operationRefused: (context, event) => operation(event, context, { error: whyTaken(context), code: 'GPU_DISK_IN_USE' }),
  operationTooLate: (context, event) =>
    operation(event, context, { error: `The disk ${context.name} is being purged`, code: 'GPU_DISK_DELETED' }),
  operationOfDeleted: (context, event) =>
    operation(event, context, { error: `The disk ${context.name} is deleted; undelete it first`, code: 'GPU_DISK_DELETED' }),
  operationNoSnapshot: (context, event) =>
    operation(event, context, {
      error: `The disk ${context.name} has no complete snapshot of that id`,
      code: 'GPU_SNAPSHOT_UNKNOWN',
    }),
  cloneFailed: (context) =>
    ended(context.operationId, { error: context.problem ?? 'unknown', code: 'GPU_DISK_OPERATION_FAILED' }),
  restoreDone: (_context, _event, before) => ended(before.restore?.operationId ?? null, null),
  restoreFailed: (context, _event, before) =>
    ended(before.restore?.operationId ?? null, {
      error: `The disk ${context.name} was not set back to ${before.restore?.snapshotId}: ${context.problem}`,
      code: 'GPU_DISK_OPERATION_FAILED',
    }),
  /** After each session, and as long as there is more than is to be kept. */
  planRetention: (context, event) => {
    const after = event.type !== 'deadline.retention' ? RETENTION_AFTER : (event.againAfter ?? null);
    return after === null || context.latestSnapshot === null ? [] : [deadline('retention', later(event, after))];
  },
  removeSnapshots: ({ id }, event) =>
    event.type === 'deadline.retention' && event.remove !== undefined && event.remove.length > 0
      ? [effect({ type: 'snapshots.remove', diskId: id, snapshots: event.remove }, { lane: 'snapshots' })]
      : [],
  clearRetention: () => clear('retention'),
  recordRemoved: ({ id }, event) =>
    event.type === 'snapshots.removed' ? record({ type: 'snapshots.removed', diskId: id, snapshotIds: event.snapshotIds }) : [],
  recordAdopted: ({ id }, event) =>
    event.type === 'disk.adopted' && event.snapshots.length > 0
      ? record({ type: 'snapshots.adopted', diskId: id, snapshots: event.snapshots })
      : [],
};

/**
 * The intents behind one action of a disk.
 * @throws if the action has no meaning: a bug of the machine, found by its tests.
 */
export function intentsOfDisk(action: { type: string }, context: DiskContext, event: DiskEvent, before: DiskContext): Answer {
  const meaning = (meanings as Record<string, (typeof meanings)[DiskActionName]>)[action.type];
  if (meaning === undefined) throw new Error(`disk: the action ${action.type} has no meaning`);
  return meaning(context, event, before);
}
