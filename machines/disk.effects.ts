/** The pure table from a disk's named action to its intents. */
import { address, clear, deadline, effect, HOUR, type Intent, limitEnd, MINUTE, send } from './authoring.ts';
import type { DiskEffect, DiskEvent, DiskRecord } from './disk.events.ts';
import type { DiskActionName, DiskContext } from './disk.machine.ts';

/** Time limits from entry of the state, in milliseconds. */
export const DISK_LIMITS = {
  cloning: 30 * MINUTE,
  attaching: 30 * MINUTE,
  detaching: 10 * MINUTE,
  capturing: 6 * HOUR,
  deletingVolume: 10 * MINUTE,
} as const;

type Answer = Intent<DiskEffect>[];

function record(entry: DiskRecord): Answer {
  return [{ do: 'record', entry }];
}

function operation(event: DiskEvent, context: DiskContext, status: 'completed' | 'failed', error: string | null): Answer {
  const operationId = 'operationId' in event ? event.operationId : context.operationId;
  return operationId === null ? [] : record({ type: 'operation.ended', operationId, status, error });
}

const toReservation = (id: string | null, event: { type: string; [key: string]: unknown }): Answer =>
  id === null ? [] : [send(address('reservation', id), event)];
const toDisk = (id: string, event: { type: string; [key: string]: unknown }): Answer => [send(address('disk', id), event)];

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
  ensureVolume: ({ round, id, owner, sizeGb, latestSnapshot, dirty, claim, node, zone }) => {
    const expectVolume = dirty || claim !== null;
    return [
      effect(
        { type: 'volume.ensure', round, diskId: id, owner, sizeGb, snapshotId: latestSnapshot, expectVolume, node, zone },
        { lane: 'volume', replaces: true },
      ),
    ];
  },
  tellAttached: (context) =>
    toReservation(context.holder, { type: 'disk.attached', claim: context.claim, generation: context.holderGeneration }),
  tellAttachFailed: (context) =>
    toReservation(context.holder, {
      type: 'disk.attachFailed',
      reason: `The disk ${context.name} could not be attached: ${context.problem}`,
      generation: context.holderGeneration,
    }),
  detachVolume: ({ round, id }) => [effect({ type: 'volume.detach', round, diskId: id }, { lane: 'volume', replaces: true })],
  tellDetached: (_context, _event, before) => toReservation(before.holder, { type: 'disk.detached' }),
  takeSnapshot: ({ round, id, capturing, holder }) =>
    capturing === null
      ? []
      : [
          effect({ type: 'snapshot.take', round, diskId: id, snapshotId: capturing }, { lane: 'volume', replaces: true }),
          ...record({ type: 'snapshot.started', diskId: id, snapshotId: capturing, reservationId: holder }),
        ],
  tellProgress: (context, event) =>
    event.type === 'snapshot.progress' ? toReservation(context.holder, { type: 'disk.progress', percent: event.percent }) : [],
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
  limitCloning: (_context, event) => [deadline('cloning', limitEnd(event, DISK_LIMITS.cloning))],
  limitAttaching: (_context, event) => [deadline('attaching', limitEnd(event, DISK_LIMITS.attaching))],
  limitDetaching: (_context, event) => [deadline('detaching', limitEnd(event, DISK_LIMITS.detaching))],
  limitCapturing: (_context, event) => [deadline('capturing', limitEnd(event, DISK_LIMITS.capturing))],
  limitDeletingVolume: (_context, event) => [deadline('deletingVolume', limitEnd(event, DISK_LIMITS.deletingVolume))],
  clearCloning: () => clear('cloning'),
  clearAttaching: () => clear('attaching'),
  clearDetaching: () => clear('detaching'),
  clearCapturing: () => clear('capturing'),
  clearDeletingVolume: () => clear('deletingVolume'),
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
  refuseCloner: (context, event) =>
    event.type === 'disk.cloneWanted'
      ? toDisk(event.diskId, { type: 'disk.cloneRefused', reason: `The disk ${context.name} is deleted` })
      : [],
  refuseCloners: (context, _event, before) =>
    before.cloners.flatMap((id) =>
      toDisk(id, { type: 'disk.cloneRefused', reason: `No snapshot of ${context.name} could be taken: ${context.problem}` }),
    ),
  operationDone: (context, event) => operation(event, context, 'completed', null),
  operationRefused: (context, event) =>
    operation(
      event,
      context,
      'failed',
      `The disk ${context.name} is in use by reservation ${context.holder ?? context.waiters[0] ?? 'another disk'}`,
    ),
  operationTooLate: (context, event) => operation(event, context, 'failed', `The disk ${context.name} is being purged`),
  cloneFailed: (context) =>
    context.operationId === null
      ? []
      : record({ type: 'operation.ended', operationId: context.operationId, status: 'failed', error: context.problem }),
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
