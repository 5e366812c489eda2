/**
 * A named disk. At most one reservation holds it at a time; the others wait in line.
 *
 * Teardown order: no writer is left → detached → final snapshot complete → volume deleted (or kept by the provider) → free for the next.
 * A snapshot that fails leaves the volume alone: nothing that holds data is deleted without a newer complete copy.
 */
import { setup } from 'xstate';
import { diskAssigns, diskGuards } from './disk.assigns.ts';
import { type DiskContext, type DiskInput, newDisk } from './disk.context.ts';
import type { DiskEvent } from './disk.events.ts';
import { assignsOf, guardsOf } from './tables.ts';

export type { DiskContext, DiskInput };

const actionNames = [
  'tellAcquired',
  'tellBusy',
  'tellUnavailable',
  'ensureVolume',
  'tellAttached',
  'tellAttachFailed',
  'detachVolume',
  'tellDetached',
  'takeSnapshot',
  'tellProgress',
  'recordPlace',
  'tellMoving',
  'recordSize',
  'recordCaptured',
  'tellCaptured',
  'tellNothingToCapture',
  'recordCaptureFailed',
  'tellCaptureFailed',
  'deleteVolume',
  'limitCloning',
  'limitAttaching',
  'limitDetaching',
  'limitCapturing',
  'discardVolume',
  'limitDeletingVolume',
  'limitRestoring',
  'clearCloning',
  'clearAttaching',
  'clearDetaching',
  'clearCapturing',
  'clearDeletingVolume',
  'clearRestoring',
  'setPurge',
  'clearPurge',
  'purge',
  'askCloneSource',
  'answerCloner',
  'answerCloners',
  'tellClonerWhy',
  'refuseCloner',
  'refuseCloners',
  'operationDone',
  'operationRefused',
  'operationTooLate',
  'operationOfDeleted',
  'operationNoSnapshot',
  'restoreDone',
  'restoreFailed',
  'planRetention',
  'removeSnapshots',
  'clearRetention',
  'recordRemoved',
  'recordAdopted',
  'cloneFailed',
] as const;
export type DiskActionName = (typeof actionNames)[number];

/** Whatever a disk is doing, its label and the size that it is to have may change, and snapshots that are too old go. */
const always = {
  'disk.renamed': { actions: ['rename', 'operationDone'] },
  'disk.grow': { guard: 'isLarger', actions: ['grow', 'recordSize'] },
  'snapshots.removed': { actions: 'recordRemoved' },
} as const;
const keepsFew = { 'deadline.retention': { actions: ['removeSnapshots', 'planRetention'] } } as const;

/** Where its volume can be used is found out while it has one. */
const notesPlace = { 'volume.placed': { guard: 'isOurVolume', actions: ['keepVolumePlace', 'recordPlace'] } } as const;

/** While the disk is taken: others wait in line, its owner cannot delete it, and a clone starts from the newest snapshot. */
const whileTaken = {
  ...always,
  ...keepsFew,
  ...notesPlace,
  'disk.acquire': { actions: ['addWaiter', 'tellBusy'] },
  'disk.delete': { actions: 'operationRefused' },
  'disk.undelete': { actions: 'operationDone' },
  'disk.restore': { actions: 'operationRefused' },
  'disk.cloneWanted': [{ guard: 'hasSnapshot', actions: 'answerCloner' }, { actions: ['addCloner', 'tellClonerWhy'] }],
} as const;

/** While nobody uses the disk, its volume was found to be gone. */
const notesMissing = { ...notesPlace, 'volume.missing': { guard: 'isOurVolume', actions: 'volumeMissing' } } as const;

/** A waiter that leaves the line. */
const leavesLine = { guard: 'isWaiter', actions: 'dropWaiter' } as const;

export const diskMachine = setup({
  types: {
    context: {} as DiskContext,
    events: {} as DiskEvent,
    input: {} as DiskInput,
    tags: {} as 'resting',
  },
  guards: guardsOf<DiskContext, DiskEvent, keyof typeof diskGuards>(diskGuards),
  actions: {
    ...assignsOf<DiskContext, DiskEvent, keyof typeof diskAssigns>(diskAssigns),
    ...(Object.fromEntries(actionNames.map((name) => [name, () => {}])) as Record<DiskActionName, () => void>),
  },
}).createMachine({
  id: 'disk',
  version: '3',
  description: 'A named disk of one user: volume, snapshots, and the one reservation that holds it.',
  context: ({ input }: { input: DiskInput | undefined }) => newDisk(input),
  options: { maxIterations: 100 },
  initial: 'opening',
  states: {
    opening: {
      description: 'New, or a clone, or adopted as it is.',
      always: [
        { guard: 'isClone', target: 'cloning' },
        { guard: 'isInUse', target: 'attached', actions: 'recordAdopted' },
        { guard: 'isDeleted', target: 'deleted', actions: 'recordAdopted' },
        { guard: 'isSaved', target: 'idle', actions: 'recordAdopted' },
        { target: 'idle', actions: 'operationDone' },
      ],
    },
    cloning: {
      description: 'Waits for the newest snapshot of the disk it is a clone of.',
      entry: ['askCloneSource', 'limitCloning'],
      exit: 'clearCloning',
      on: {
        ...always,
        'disk.cloneDelayed': { actions: 'keepProblem' },
        'disk.restore': { actions: 'operationRefused' },
        'disk.cloneSource': { target: 'next', actions: ['keepCloneSource', 'operationDone'] },
        'disk.cloneRefused': { target: 'purged', actions: ['keepProblem', 'cloneFailed', 'tellUnavailable', 'refuseCloners'] },
        'deadline.cloning': { target: 'purged', actions: ['keepProblem', 'cloneFailed', 'tellUnavailable', 'refuseCloners'] },
        'disk.acquire': { actions: ['addWaiter', 'tellBusy'] },
        'disk.release': leavesLine,
        'disk.cloneWanted': { actions: ['addCloner', 'tellClonerWhy'] },
        'disk.delete': { actions: 'operationRefused' },
        'disk.undelete': { actions: 'operationDone' },
      },
    },
    idle: {
      description: 'Nobody uses it.',
      tags: ['resting'],
      on: {
        ...always,
        ...keepsFew,
        ...notesMissing,
        'disk.acquire': { target: 'held', actions: ['hold', 'tellAcquired'] },
        'disk.delete': { target: 'deleted', actions: ['markDeleted', 'clearRetention', 'operationDone'] },
        'disk.undelete': { actions: 'operationDone' },
        // What no snapshot has is saved first: a restore can be taken back by another.
        'disk.restore': [
          { guard: 'restoresUnsaved', target: 'capturing', actions: ['keepRestore', 'nextRound', 'nameSnapshot'] },
          { guard: 'restoresSaved', target: 'restoring', actions: ['keepRestore', 'nextRound'] },
          { guard: 'restoresNothing', actions: ['restoreAtOnce', 'operationDone'] },
          { actions: 'operationNoSnapshot' },
        ],
        'disk.cloneWanted': [
          {
            guard: 'needsCaptureForClone',
            target: 'capturing',
            actions: ['addCloner', 'nextRound', 'nameSnapshot', 'tellClonerWhy'],
          },
          { actions: 'answerCloner' },
        ],
      },
    },
    held: {
      description: 'Held by a reservation that has no server yet.',
      tags: ['resting'],
      on: {
        ...whileTaken,
        'disk.acquire': [{ guard: 'isHolder', actions: 'tellAcquired' }, { actions: ['addWaiter', 'tellBusy'] }],
        'disk.attach': { guard: 'isHolder', target: 'attaching', actions: ['keepPlace', 'nextRound', 'tellMoving'] },
        'disk.detach': { guard: 'isHolder', target: 'detaching', actions: 'nextRound' },
        'disk.release': [{ guard: 'isHolder', target: 'next' }, leavesLine],
      },
    },
    attaching: {
      description: 'The volume is made usable where the server will run.',
      entry: ['ensureVolume', 'limitAttaching'],
      exit: 'clearAttaching',
      on: {
        ...whileTaken,
        'volume.ready': { guard: 'ofThisRound', target: 'attached', actions: ['keepClaim', 'recordSize', 'tellAttached'] },
        // A large disk takes long to be filled: the limit is for what stands still.
        'volume.progress': { guard: 'ofThisRound', actions: ['limitAttaching', 'tellProgress'] },
        'volume.failed': { guard: 'ofThisRound', target: 'held', actions: ['keepProblem', 'tellAttachFailed'] },
        'deadline.attaching': { target: 'held', actions: ['keepProblem', 'tellAttachFailed'] },
        'disk.attach': {
          guard: 'isHolder',
          target: 'attaching',
          reenter: true,
          actions: ['keepPlace', 'nextRound', 'tellMoving'],
        },
        'disk.detach': { guard: 'isHolder', target: 'detaching', actions: 'nextRound' },
        'disk.release': [{ guard: 'isHolder', target: 'detaching', actions: 'nextRound' }, leavesLine],
      },
    },
    attached: {
      description: 'In use by a server.',
      tags: ['resting'],
      on: {
        ...whileTaken,
        'disk.attach': { guard: 'isHolder', target: 'attaching', actions: ['keepPlace', 'nextRound', 'tellMoving'] },
        'disk.detach': { guard: 'isHolder', target: 'detaching', actions: 'nextRound' },
        'disk.release': [{ guard: 'isHolder', target: 'detaching', actions: 'nextRound' }, leavesLine],
      },
    },
    detaching: {
      description: 'The server is gone; waiting until no node holds the volume.',
      entry: ['detachVolume', 'limitDetaching'],
      exit: 'clearDetaching',
      on: {
        ...whileTaken,
        'disk.release': leavesLine,
        'volume.detached': [
          {
            guard: 'detachedDirty',
            target: 'capturing',
            actions: ['keepVolumePlace', 'tellDetached', 'nextRound', 'nameSnapshot'],
          },
          { guard: 'ofThisRound', target: 'next', actions: ['keepVolumePlace', 'tellDetached', 'tellNothingToCapture'] },
        ],
        'volume.failed': { guard: 'ofThisRound', actions: 'keepProblem' },
        'deadline.detaching': { target: 'detaching', reenter: true, actions: ['keepProblem', 'nextRound'] },
      },
    },
    capturing: {
      description: 'A snapshot of the quiet volume is being taken.',
      entry: ['takeSnapshot', 'limitCapturing'],
      exit: 'clearCapturing',
      on: {
        ...whileTaken,
        'disk.release': leavesLine,
        'disk.cloneWanted': { actions: ['addCloner', 'tellClonerWhy'] },
        'snapshot.progress': { guard: 'ofThisRound', actions: 'tellProgress' },
        'snapshot.complete': [
          {
            guard: 'savesForRestore',
            target: 'restoring',
            actions: ['keepSnapshot', 'recordCaptured', 'tellCaptured', 'nextRound'],
          },
          {
            guard: 'ofThisRound',
            target: 'deletingVolume',
            actions: ['keepSnapshot', 'recordCaptured', 'tellCaptured', 'nextRound'],
          },
        ],
        'snapshot.failed': {
          guard: 'ofThisRound',
          target: 'next',
          actions: ['keepProblem', 'recordCaptureFailed', 'tellCaptureFailed', 'refuseCloners', 'restoreFailed', 'dropRestore'],
        },
        'deadline.capturing': {
          target: 'next',
          actions: ['keepProblem', 'recordCaptureFailed', 'tellCaptureFailed', 'refuseCloners', 'restoreFailed', 'dropRestore'],
        },
      },
    },
    deletingVolume: {
      description: 'The snapshot is complete: the live volume may go.',
      entry: ['deleteVolume', 'limitDeletingVolume'],
      exit: 'clearDeletingVolume',
      on: {
        ...whileTaken,
        'disk.cloneWanted': { actions: 'answerCloner' },
        'disk.release': leavesLine,
        'volume.deleted': { guard: 'ofThisRound', target: 'next', actions: 'volumeGone' },
        'volume.failed': { guard: 'ofThisRound', target: 'next', actions: 'keepProblem' },
        'deadline.deletingVolume': { target: 'next', actions: ['keepProblem', 'doubtVolume'] },
      },
    },
    restoring: {
      description:
        'All data is in snapshots: the live volume goes, and the next one starts from the snapshot that was asked for.',
      entry: ['discardVolume', 'limitRestoring'],
      exit: 'clearRestoring',
      on: {
        ...whileTaken,
        'disk.cloneWanted': { actions: 'answerCloner' },
        'disk.release': leavesLine,
        'volume.discarded': { guard: 'ofThisRound', target: 'next', actions: ['restoreDone', 'restored'] },
        'volume.failed': { guard: 'ofThisRound', target: 'next', actions: ['keepProblem', 'restoreFailed', 'dropRestore'] },
        'deadline.restoring': { target: 'next', actions: ['keepProblem', 'doubtVolume', 'restoreFailed', 'dropRestore'] },
      },
    },
    next: {
      description: 'Free again: clones are answered, and the next in line gets it.',
      entry: ['letGo', 'answerCloners', 'forgetCloners', 'planRetention'],
      always: [{ guard: 'hasWaiters', target: 'held', actions: ['holdFirstWaiter', 'tellAcquired'] }, { target: 'idle' }],
    },
    deleted: {
      description: 'Deleted by its owner; can be brought back until it is purged.',
      tags: ['resting'],
      entry: 'setPurge',
      exit: 'clearPurge',
      on: {
        ...always,
        ...notesMissing,
        'disk.acquire': { actions: 'tellUnavailable' },
        'disk.delete': { actions: 'operationDone' },
        'disk.restore': { actions: 'operationOfDeleted' },
        'disk.undelete': { target: 'idle', actions: ['markUndeleted', 'planRetention', 'operationDone'] },
        'disk.cloneWanted': { actions: 'refuseCloner' },
        'deadline.purge': { target: 'purging', actions: 'nextRound' },
      },
    },
    purging: {
      description: 'The time to bring it back is over: its recorded volume and snapshots are being deleted.',
      entry: 'purge',
      tags: ['resting'],
      on: {
        ...always,
        'purge.done': { guard: 'ofThisRound', target: 'purged' },
        'volume.failed': { guard: 'ofThisRound', actions: 'keepProblem' },
        'disk.delete': { actions: 'operationDone' },
        'disk.undelete': { actions: 'operationTooLate' },
        'disk.restore': { actions: 'operationTooLate' },
        'disk.acquire': { actions: 'tellUnavailable' },
        'disk.cloneWanted': { actions: 'refuseCloner' },
      },
    },
    purged: { type: 'final', description: 'Nothing of it is left.' },
  },
});
