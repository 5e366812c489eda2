/** The model of a disk: what may happen to it, and what it promises. */
import type { AnyMachineSnapshot } from 'xstate';
import type { DiskContext } from '../../machines/disk.machine.ts';
import { parseAddress } from '../../actors/kernel/kind.ts';
import { KINDS, promise, type Promises, type Step } from './drive.ts';
import type { Model, Scenario } from './explore.ts';
import { growing, sizes } from './disk.sizes.ts';
import { type Case, statePath } from './graph.ts';

const [ADA, BOB, EVE] = ['ada', 'bob', 'eve'].map((_name, index) => `019cae31-0000-7000-8000-0000000000a${index}`) as [
  string,
  string,
  string,
];
export const RESERVATIONS = [ADA, BOB, EVE];
const CLONE = '019cae31-0000-7000-8000-0000000000c1';
const SAVED = 'snap-saved';
/** Snapshots that are complete before the disk ever takes one: that of the disk that it clones, and one to be set back to. */
const GIVEN: ReadonlySet<string> = new Set([SAVED, 'snap-source']);
const PLACE = { anyOf: [{ 'topology.kubernetes.io/zone': ['a'] }], movable: true };
const DELETE_AT = '2026-04-01T10:00:00.000Z';

const contextOf = (snapshot: AnyMachineSnapshot) => snapshot.context as DiskContext;

function ofRound(round: number, snapshotId: string): Case[] {
  return [
    { type: 'volume.ready', round, claim: 'claim-1' },
    { type: 'volume.progress', round, percent: 40 },
    { type: 'volume.failed', round, reason: 'no such zone' },
    { type: 'volume.detached', round, place: PLACE },
    { type: 'snapshot.progress', round, percent: 40 },
    { type: 'snapshot.complete', round, snapshotId, sizeBytes: 10 },
    { type: 'snapshot.failed', round, reason: 'quota' },
    { type: 'volume.deleted', round, kept: false },
    { type: 'volume.deleted', round, kept: true },
    { type: 'volume.discarded', round },
    { type: 'purge.done', round },
  ];
}

const DUE: Record<string, string[]> = {
  cloning: ['cloning'],
  deletingVolume: ['deletingVolume'],
  attaching: ['attaching'],
  detaching: ['detaching'],
  capturing: ['capturing'],
  restoring: ['restoring'],
  deleted: ['purge'],
};

/** What retention may find: nothing, and nothing to come; or snapshots that go, and a time to look again. */
const RETENTION: Case[] = [
  { type: 'deadline.retention', remove: [], againAfter: null },
  { type: 'deadline.retention', remove: [{ snapshotId: 'snap-old', diskId: 'd' }], againAfter: 86_400_000 },
];

/** Everything that may happen now. `people` of the three reservations take part. */
const events =
  (people: number) =>
  (snapshot: AnyMachineSnapshot): Case[] => {
    const { round, waiters, holder, capturing } = contextOf(snapshot);
    const line = [holder, ...waiters];
    return [
      ...RESERVATIONS.slice(0, people).flatMap((reservationId): Case[] => [
        { type: 'disk.acquire', reservationId, owner: 'ada' },
        { type: 'disk.release', reservationId },
        // The rest is asked by holders only, and by one that does not know that it is not.
        ...(line.includes(reservationId) || reservationId === BOB
          ? [
              { type: 'disk.attach', reservationId, generation: 1, node: 'h100-1', zone: 'b' },
              { type: 'disk.detach', reservationId },
            ]
          : []),
      ]),
      { type: 'disk.delete', by: 'ada', deleteAt: DELETE_AT, operationId: 'op-delete' },
      { type: 'disk.undelete', by: 'ada', operationId: 'op-undelete' },
      { type: 'disk.cloneWanted', diskId: CLONE },
      { type: 'disk.cloneSource', snapshotId: 'snap-source' },
      { type: 'disk.cloneSource', snapshotId: null },
      { type: 'disk.cloneRefused', reason: 'it is deleted' },
      { type: 'disk.cloneDelayed', reason: 'it is in use' },
      { type: 'disk.renamed', by: 'ada', name: 'renamed', operationId: 'op-rename' },
      { type: 'disk.restore', by: 'ada', snapshotId: SAVED, operationId: 'op-restore', there: true },
      { type: 'disk.restore', by: 'ada', snapshotId: 'snap-none', operationId: 'op-restore-none', there: false },
      { type: 'snapshots.removed', snapshotIds: ['snap-old'] },
      ...RETENTION,
      { type: 'volume.missing', claim: 'claim-1' },
      { type: 'volume.placed', claim: 'claim-1', place: PLACE },
      ...ofRound(round, capturing ?? 'snap-unknown'),
      ...(DUE[statePath(snapshot.value)] ?? []).map((name) => ({ type: `deadline.${name}` })),
    ];
  };

const birth = (cloneOf: string | null): Case => ({
  type: 'disk.created',
  id: '019cae31-0000-7000-8000-00000000d15c',
  owner: 'ada',
  name: 'default',
  sizeGb: 200,
  cloneOf,
  operationId: 'op-create',
});

/** The birth of one that an earlier database knew. */
const adopted = (what: { claim: string | null; held?: boolean; deleted?: boolean }): Case => ({
  type: 'disk.adopted',
  id: '019cae31-0000-7000-8000-00000000d15c',
  owner: 'ada',
  name: 'default',
  sizeGb: 200,
  round: 7,
  claim: what.claim,
  latestSnapshot: SAVED,
  snapshots: [{ snapshotId: SAVED, reservationId: null, sizeBytes: 10, createdAt: '2026-03-01T10:00:00.000Z' }],
  held: what.held === true ? { reservationId: ADA, generation: 1, node: 'h100-1', zone: null } : null,
  deleteAt: what.deleted === true ? DELETE_AT : null,
});

export const DISK_SCENARIOS: Scenario[] = [
  { name: 'a new disk', birth: birth(null), events: events(2) },
  { name: 'an adopted disk in use', birth: adopted({ claim: 'claim-1', held: true }), events: events(2) },
  { name: 'an adopted disk with a volume that nobody uses', birth: adopted({ claim: 'claim-1' }), events: events(1) },
  { name: 'an adopted disk of snapshots, deleted', birth: adopted({ claim: null, deleted: true }), events: events(1) },
  { name: 'a disk with three in line', birth: birth(null), events: events(3) },
  { name: 'a disk that is to grow', birth: birth(null), events: growing(events(1)) },
  { name: 'a clone that is to grow', birth: birth('019cae31-0000-7000-8000-00000000d150'), events: growing(events(0)) },
  { name: 'a clone', birth: birth('019cae31-0000-7000-8000-00000000d150'), events: events(2) },
];

function key(snapshot: AnyMachineSnapshot): string {
  const { holder, waiters, dirty, latestSnapshot, claim, cloners, capturing, deleteAt, restore, sizeGb } = contextOf(snapshot);
  const who = (id: string | null) => (id === null ? '-' : RESERVATIONS.indexOf(id));
  return JSON.stringify([
    snapshot.value,
    who(holder),
    waiters.map(who),
    dirty,
    latestSnapshot !== null,
    claim !== null,
    cloners.length,
    capturing !== null,
    deleteAt !== null,
    restore !== null,
    sizeGb,
  ]);
}

export interface DiskMemory {
  /** The line as it should be: the holder first. */
  line: readonly string[];
  holder: string | null;
  complete: ReadonlySet<string>;
  /** A volume was made, and not deleted since: it must be there. */
  volume: boolean;
  started: string | null;
  /** The snapshot that the disk is to be set back to, from the wish to its answer. */
  restoring: string | null;
  /** The owner's wish to delete stands. */
  wished: boolean;
  cloners: readonly string[];
  operations: readonly string[];
}

const START: DiskMemory = {
  line: [],
  holder: null,
  complete: new Set(),
  volume: false,
  started: null,
  restoring: null,
  wished: false,
  cloners: [],
  operations: [],
};

/** It has what it had in an earlier database. */
function known(memory: DiskMemory, { holder, claim, latestSnapshot, deleteAt }: DiskContext): DiskMemory {
  const line = holder === null ? [] : [holder];
  return { ...memory, line, holder, volume: claim !== null, complete: new Set([latestSnapshot!]), wished: deleteAt !== null };
}

function check(memory: DiskMemory, step: Step): DiskMemory {
  const { event, before, after, intents } = step;
  const context = contextOf(after);
  if (event.type === 'disk.adopted') memory = known(memory, context);
  const path = statePath(after.value);
  const from = before === null ? '' : statePath(before.value);
  const next = { ...memory, complete: new Set(memory.complete) };
  const sent = intents.flatMap((intent) =>
    intent.do === 'send' ? [{ ...parseAddress(intent.to), event: intent.event as Case }] : [],
  );

  line(next, step, sent, path, from);
  promise(context.waiters.length === new Set(context.waiters).size, 'somebody waits twice');
  promise(context.holder === null || !context.waiters.includes(context.holder), 'the holder waits for itself');
  if (['idle', 'deleted', 'purging', 'purged'].includes(path) && before !== null && from !== 'cloning')
    promise(context.holder === null && context.waiters.length === 0, `${path}, and somebody holds it or waits`);

  if (event.type === 'disk.delete' && from === 'idle') next.wished = true;
  if (event.type === 'disk.undelete' && from === 'deleted') next.wished = false;
  if (event.type === 'snapshot.complete' && from === 'capturing' && path !== from) next.complete.add(String(event['snapshotId']));
  if (event.type === 'volume.ready' && path === 'attached' && from === 'attaching') next.volume = true;
  if (event.type === 'volume.deleted' && from === 'deletingVolume' && path !== from) next.volume = event['kept'] === true;
  if (event.type === 'deadline.deletingVolume' && from === 'deletingVolume') next.volume = false;
  if (from === 'restoring' && path !== from && ['volume.discarded', 'deadline.restoring'].includes(event.type))
    next.volume = false;
  for (const intent of intents) {
    if (intent.do === 'record') records(next, intent.entry as Case, context);
    if (intent.do === 'effect') effects(next, intent.effect as Case, context, path);
  }
  if (from === 'capturing' && !['capturing', 'deletingVolume', 'restoring'].includes(path))
    promise(context.dirty && context.claim === before!.context.claim, 'a snapshot failed, and the volume is forgotten');
  restores(next, memory, step, path, from);
  promise(
    event.type !== 'disk.renamed' || after.status !== 'active' || context.name === 'renamed',
    `a disk is not renamed in ${from}`,
  );
  if (['disk.delete', 'disk.undelete', 'disk.renamed'].includes(event.type) && after.status === 'active')
    promise(next.operations.includes(String(event['operationId'])), `${event.type} in ${from} never ends its operation`);
  clones(next, memory, step, sent, path);
  sizes(step, path);
  promise(context.claim !== null || context.place === null, 'a disk without a volume has a place');
  promise(context.deleteAt === null || ['deleted', 'purging', 'purged'].includes(path), 'a disk in use is marked as deleted');
  return next;
}

type Sent = { kind: string; id: string; event: Case };

/** One holder at a time, and whoever came first is next. */
function line(memory: DiskMemory, { event, before, after }: Step, sent: readonly Sent[], path: string, from: string): void {
  const context = contextOf(after);
  const id = String(event['reservationId']);
  const dead = ['deleted', 'purging', 'purged'].includes(from);
  if (event.type === 'disk.acquire' && !dead) {
    if (!memory.line.includes(id)) memory.line = [...memory.line, id];
    const answers = sent.filter((message) => message.kind === 'reservation' && message.id === id);
    const inUse = memory.holder === id && from !== 'held';
    // A disk that is only being cloned is not busy: whoever is first in line waits without being told of another.
    const first = context.holder === null && memory.line[0] === id;
    promise(answers.length === (first ? 0 : 1) || inUse, `an acquire in ${from} is answered ${answers.length} times`);
  }
  if (event.type === 'disk.release' && id !== memory.holder) memory.line = memory.line.filter((other) => other !== id);
  const freed = memory.holder !== null && context.holder !== memory.holder;
  if (freed) memory.line = memory.line.filter((other) => other !== memory.holder);
  if (path === 'purged') {
    const refused = sent.filter((message) => message.event.type === 'disk.unavailable').map((message) => message.id);
    promise(JSON.stringify(refused) === JSON.stringify(memory.line), 'somebody waits for a disk that will never be');
    return;
  }
  promise(
    JSON.stringify([...(context.holder === null ? [] : [context.holder]), ...context.waiters]) === JSON.stringify(memory.line),
    `the line is ${[context.holder, ...context.waiters].join(', ')} and should be ${memory.line.join(', ')}`,
  );
  if (context.holder !== memory.holder && context.holder !== null) {
    const told = sent.filter((message) => message.event.type === 'disk.acquired');
    promise(told.length === 1 && told[0]!.id === context.holder, 'the new holder is not told, or somebody else is');
    promise(path === 'held', `it changes hands in ${path}`);
    promise(
      before === null || ['idle', 'cloning', 'held', 'detaching', 'capturing', 'deletingVolume', 'restoring'].includes(from),
      `it changes hands out of ${from}`,
    );
  }
  for (const message of sent) {
    if (message.event.type === 'disk.acquired')
      promise(message.id === context.holder, 'two reservations are told that they hold it');
    if (message.event.type === 'disk.unavailable' && 'reservationId' in event)
      promise(message.id === id, 'the wrong one is refused');
  }
  memory.holder = context.holder;
}

function records(memory: DiskMemory, entry: Case, context: DiskContext): void {
  switch (entry.type) {
    case 'snapshot.started':
      promise(memory.started === null, 'two snapshots at once');
      memory.started = String(entry['snapshotId']);
      break;
    case 'snapshot.completed':
    case 'snapshot.failed':
      promise(memory.started === entry['snapshotId'], `the snapshot ${memory.started} runs, ${entry['snapshotId']} ended`);
      memory.started = null;
      break;
    case 'volume.placed':
      promise(entry['reservationId'] === context.holder, 'somebody else is bound to the place of the volume');
      break;
    case 'disk.sized':
      promise(entry['sizeGb'] === context.sizeGb, 'another size is recorded');
      break;
    case 'snapshots.adopted':
      promise((entry['snapshots'] as unknown[]).length > 0, 'nothing was adopted');
      break;
    case 'snapshots.removed':
      promise((entry['snapshotIds'] as string[]).length > 0, 'nothing was removed');
      break;
    case 'operation.ended':
      promise((entry['status'] === 'failed') === (entry['code'] !== null), 'a refusal has no code');
      promise(
        entry['status'] === 'completed' || String(entry['error']).includes(context.name) || String(entry['error']).length > 5,
        'an operation fails without a reason',
      );
      memory.operations = [...memory.operations, String(entry['operationId'])];
      break;
    default:
      throw new Error(`an unknown record: ${entry.type}`);
  }
}

/** A restore ends with the snapshot that was asked for, or leaves the disk as it was; and its operation always ends. */
function restores(next: DiskMemory, memory: DiskMemory, { event, before, after }: Step, path: string, from: string): void {
  const context = contextOf(after);
  const ended = next.operations.length > memory.operations.length ? next.operations.at(-1) : null;
  if (event.type === 'disk.restore' && after.status === 'active') {
    const begun = from === 'idle' && event['there'] === true && ['capturing', 'restoring'].includes(path);
    promise(begun || ended === event['operationId'], `a restore in ${from} is not answered`);
    if (begun) next.restoring = String(event['snapshotId']);
    else if (from === 'idle' && event['there'] === true)
      promise(context.latestSnapshot === SAVED && context.claim === null, 'a disk without a volume is not set back at once');
    return;
  }
  if (memory.restoring === null) return;
  if (['capturing', 'restoring'].includes(path)) {
    promise(ended !== 'op-restore', 'a restore that goes on is answered');
    return;
  }
  promise(ended === 'op-restore', 'a restore that is over is not answered');
  if (event.type === 'volume.discarded')
    promise(
      context.latestSnapshot === memory.restoring && context.claim === null && !context.dirty,
      'a disk is not set back to the snapshot that was asked for',
    );
  else promise(context.latestSnapshot === contextOf(before!).latestSnapshot, 'a restore that failed changed the disk');
  promise(context.restore === null, 'a restore that is over is still wanted');
  next.restoring = null;
}

/** Nothing that holds data is deleted without a complete snapshot, or the owner's wish. */
function effects(memory: DiskMemory, effect: Case, context: DiskContext, path: string): void {
  if (effect.type === 'volume.delete') {
    promise(memory.complete.has(String(effect['afterSnapshot'])), 'a volume is deleted without a complete snapshot');
    promise(!context.dirty && memory.started === null, 'a volume is deleted that holds newer data');
  }
  if (effect.type === 'volume.discard') {
    const saved = String(effect['afterSnapshot']);
    promise(memory.complete.has(saved) || GIVEN.has(saved), 'a volume is discarded without a complete snapshot');
    promise(!context.dirty && memory.started === null && context.restore !== null, 'a volume is discarded for nothing');
  }
  if (effect.type === 'snapshots.remove') {
    const gone = (effect['snapshots'] as { snapshotId: string }[]).map((each) => each.snapshotId);
    promise(gone.length > 0 && !gone.includes(context.latestSnapshot ?? ''), 'a snapshot goes that the disk would start from');
    return;
  }
  if (effect.type === 'volume.ensure')
    promise(effect['expectVolume'] === memory.volume, 'a volume that must be there could be made anew, or a new one is expected');
  if (effect.type === 'disk.purge') promise(memory.wished && context.deleteAt !== null, 'a disk is purged that nobody deleted');
  if (effect.type === 'snapshot.take') promise(path === 'capturing', 'a snapshot is taken of a volume in use');
  promise(effect['round'] === context.round, 'an effect of another round');
}

/** Whoever wants a clone gets one answer, and never an empty disk instead of unsaved data. */
function clones(next: DiskMemory, memory: DiskMemory, { event, after, before }: Step, sent: readonly Sent[], path: string): void {
  if (event.type === 'disk.cloneWanted' && after !== before && !memory.cloners.includes(String(event['diskId'])))
    next.cloners = [...memory.cloners, String(event['diskId'])];
  const context = contextOf(after);
  for (const message of sent.filter(({ kind }) => kind === 'disk')) {
    if (message.event.type === 'disk.cloneWanted' || message.event.type === 'disk.cloneDelayed') continue;
    promise(
      message.event.type === 'disk.cloneRefused' || message.event['snapshotId'] !== null || !context.dirty,
      'a clone starts empty, and there is unsaved data',
    );
    // Whoever asks again is answered again, and keeps its place.
    if (event.type !== 'disk.cloneWanted' || !memory.cloners.includes(message.id))
      next.cloners = next.cloners.filter((id) => id !== message.id);
  }
  promise(
    JSON.stringify(context.cloners) === JSON.stringify(next.cloners) || path === 'purged',
    `${next.cloners} wait for a clone, ${context.cloners} are known`,
  );
  if (['idle', 'deleted', 'purged'].includes(path)) promise(next.cloners.length === 0, `${path}, and a clone is not answered`);
}

export const diskPromises: Promises<DiskMemory> = { start: START, check };

export const diskModel: Model<DiskMemory> = {
  kind: KINDS.disk,
  scenarios: DISK_SCENARIOS,
  key,
  promises: diskPromises,
  late: (snapshot) => ofRound(contextOf(snapshot).round - 1, 'snap-late'),
};
