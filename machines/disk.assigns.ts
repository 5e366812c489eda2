/** How a disk's context changes, and the conditions it checks: pure functions of context and event. */
import type { DiskEvent } from './disk.events.ts';
import type { DiskContext } from './disk.machine.ts';

type Change = Partial<DiskContext>;
type Typed<T extends DiskEvent['type']> = Extract<DiskEvent, { type: T }>;

/** The reservation that an event speaks for. */
function reservationOf(event: DiskEvent): string | null {
  return 'reservationId' in event ? event.reservationId : null;
}

const LIMIT_PROBLEMS: Partial<Record<DiskEvent['type'], string>> = {
  'deadline.cloning': 'The disk that it is to be a clone of had no snapshot for it within 30 minutes',
  'deadline.attaching':
    'Making its volume ready came no further for 30 minutes; what is filled from a snapshot is filled further, so try again later',
  'deadline.restoring': 'Making room for the snapshot took longer than 10 minutes',
  'deadline.deletingVolume': 'Deleting the volume after its snapshot took longer than 10 minutes',
};

export const diskAssigns = {
  hold: (_context, event) => ({ holder: reservationOf(event) }),
  letGo: () => ({ holder: null, capturing: null }),
  holdFirstWaiter: (context) => ({ holder: context.waiters[0] ?? null, waiters: context.waiters.slice(1) }),
  addWaiter: (context, event) => {
    const id = reservationOf(event);
    return id === null || id === context.holder || context.waiters.includes(id) ? {} : { waiters: [...context.waiters, id] };
  },
  dropWaiter: (context, event) => ({ waiters: context.waiters.filter((id) => id !== reservationOf(event)) }),
  nextRound: (context) => ({ round: context.round + 1 }),
  keepPlace: (_context, event) => {
    const { node, zone, generation } = event as Typed<'disk.attach'>;
    return { node, zone, holderGeneration: generation };
  },
  keepClaim: (context, event) => {
    const { claim, place, stays } = event as Typed<'volume.ready'>;
    // What cannot be is no longer wanted, or every later use would try it again.
    const sizeGb = stays === undefined || stays.again ? context.sizeGb : stays.sizeGb;
    return { claim, place: place ?? context.place, dirty: true, sizeGb, problem: stays?.reason ?? null };
  },
  grow: (_context, event) => ({ sizeGb: (event as Typed<'disk.grow'>).sizeGb }),
  /** What is not known anew is as it was; without a volume there is no place. */
  keepVolumePlace: (context, event) =>
    context.claim === null ? {} : { place: (event as Typed<'volume.detached' | 'volume.placed'>).place ?? context.place },
  nameSnapshot: (context) => ({ capturing: `snap-${context.id}-${context.round}` }),
  keepSnapshot: (_context, event) => ({
    latestSnapshot: (event as Typed<'snapshot.complete'>).snapshotId,
    dirty: false,
    problem: null,
  }),
  volumeGone: (_context, event) => ((event as Typed<'volume.deleted'>).kept ? {} : { claim: null, place: null }),
  /** It may be deleted or not. Its snapshot is complete: what is still there is used, what is gone comes back from the snapshot. */
  doubtVolume: () => ({ claim: null, place: null }),
  /** The claim stays on record: a volume that must be there is never made anew, so whoever uses the disk next is told. */
  volumeMissing: (context) => ({ problem: `The volume ${context.claim} of this disk is missing; an operator must look` }),
  keepCloneSource: (_context, event) => ({
    latestSnapshot: (event as Typed<'disk.cloneSource'>).snapshotId,
    problem: null,
  }),
  addCloner: (context, event) => {
    const { diskId } = event as Typed<'disk.cloneWanted'>;
    return context.cloners.includes(diskId) ? {} : { cloners: [...context.cloners, diskId] };
  },
  forgetCloners: () => ({ cloners: [] }),
  rename: (_context, event) => ({ name: (event as Typed<'disk.renamed'>).name }),
  keepRestore: (_context, event) => {
    const { snapshotId, operationId } = event as Typed<'disk.restore'>;
    return { restore: { snapshotId, operationId } };
  },
  /** The volume is gone: the next one starts from the snapshot that was asked for. */
  restored: (context) =>
    context.restore === null
      ? {}
      : { latestSnapshot: context.restore.snapshotId, claim: null, place: null, dirty: false, problem: null, restore: null },
  restoreAtOnce: (_context, event) => ({ latestSnapshot: (event as Typed<'disk.restore'>).snapshotId, problem: null }),
  dropRestore: () => ({ restore: null }),
  markDeleted: (_context, event) => ({ deleteAt: (event as Typed<'disk.delete'>).deleteAt }),
  markUndeleted: () => ({ deleteAt: null }),
  keepProblem: (_context, event) => ({
    problem:
      'reason' in event ? event.reason : (LIMIT_PROBLEMS[event.type] ?? `${event.type.replace('deadline.', '')} took too long`),
  }),
} satisfies Record<string, (context: DiskContext, event: DiskEvent) => Change>;

/** The snapshot that a restore asks for can be had. */
function isThere(event: DiskEvent): boolean {
  return event.type === 'disk.restore' && event.there === true;
}

export const diskGuards = {
  isOurVolume: (context, event) =>
    (event.type === 'volume.missing' || event.type === 'volume.placed') && event.claim === context.claim,
  isInUse: (context) => context.holder !== null,
  isDeleted: (context) => context.deleteAt !== null,
  isSaved: (context) => context.claim !== null || context.latestSnapshot !== null,
  isClone: (context) => context.cloneOf !== null,
  isLarger: (context, event) => event.type === 'disk.grow' && event.sizeGb > context.sizeGb,
  isHolder: (context, event) => reservationOf(event) === context.holder,
  isWaiter: (context, event) => context.waiters.includes(reservationOf(event) ?? ''),
  hasWaiters: (context) => context.waiters.length > 0,
  ofThisRound: (context, event) => 'round' in event && event.round === context.round,
  detachedDirty: (context, event) => 'round' in event && event.round === context.round && context.dirty,
  hasSnapshot: (context) => context.latestSnapshot !== null,
  savesForRestore: (context, event) => 'round' in event && event.round === context.round && context.restore !== null,
  restoresUnsaved: (context, event) => isThere(event) && context.dirty,
  // Also where no volume is known of: one may be there all the same, with what was on it before.
  restoresSaved: (context, event) => isThere(event) && context.latestSnapshot !== null,
  restoresNothing: (context, event) => isThere(event) && context.claim === null,
  needsCaptureForClone: (context) => context.latestSnapshot === null && context.dirty,
} satisfies Record<string, (context: DiskContext, event: DiskEvent) => boolean>;
