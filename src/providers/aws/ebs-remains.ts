/** Disks as EBS has them, by their tags: for a database that is built anew. What a record says stands in a tag of its own. */
import type { Queryable, Store } from '../../../persistence/database.ts';
import type { DiskCarrier, DiskRemains, FoundDisks, FoundSnapshot, FoundVolume } from '../../rebuild/ports.ts';
import { type DiskRecord, readDiskRecord, writeRecord } from '../../rebuild/records.ts';
import { claimName } from '../kubernetes/objects.ts';
import type { Ec2, SnapshotView, VolumeView } from './ec2.ts';
import type { StaticClaims } from './static-claims.ts';
import { TAG, type Tags } from './tags.ts';

const DISK_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** What EC2 says of a snapshot that was copied from another: its volume is none. */
const NO_VOLUME = 'vol-ffffffff';
/** Snapshots that carried a disk to another zone: on record, and none that a disk starts from. */
const MOVE = 'move-';

const ADOPT_VOLUME = `
  insert into ebs_volumes (disk_id, generation, volume_id, zone, size_gb, from_snapshot, state, created_at)
  values ($1, $2, $3, $4, $5, $6, 'live', $7)`;
// The numbers of volumes go on from there: a number is part of the token by which AWS recognizes a request.
const KEEP_NUMBER = `
  insert into ebs_volumes (disk_id, generation, zone, size_gb, state, gone_at) values ($1, $2, '', 1, 'gone', now())`;
const ADOPT_SNAPSHOT = `
  insert into ebs_snapshots (snapshot_id, disk_id, volume_id, ebs_snapshot_id, created_at, completed_at, state)
  values ($1, $2, $3, $4, $5, case when $6 = 'completed' then now() end, $6)`;
const LIVE_VOLUME = `select volume_id as id from ebs_volumes where disk_id = $1 and state = 'live'`;
const OWN_SNAPSHOT = `
  select ebs_snapshot_id as id from ebs_snapshots where disk_id = $1 and snapshot_id = $2 and ebs_snapshot_id is not null`;

export class EbsDiskRemains implements DiskRemains {
  readonly #db: Store;
  readonly #ec2: Ec2;
  readonly #claims: Pick<StaticClaims, 'volumeOf'>;
  /** As they were found last. */
  #volumes = new Map<string, VolumeView>();
  #snapshots = new Map<string, SnapshotView>();
  #moves: readonly FoundMove[] = [];

  constructor(db: Store, ec2: Ec2, claims: Pick<StaticClaims, 'volumeOf'>) {
    this.#db = db;
    this.#ec2 = ec2;
    this.#claims = claims;
  }

  async find(): Promise<FoundDisks> {
    const ours = { [TAG.cluster]: this.#ec2.service.settings.cluster };
    const found: FoundDisks = { volumes: [], snapshots: [], ignored: [] };
    const volumes = new Map<string, VolumeView>();
    const snapshots = new Map<string, SnapshotView>();
    const moves: FoundMove[] = [];
    for await (const page of this.#ec2.volumePages(ours))
      for (const view of page) {
        volumes.set(view.id, view);
        const each = foundVolume(view);
        if ('why' in each) found.ignored.push(each);
        else if (view.state !== 'deleting' && view.state !== 'deleted') found.volumes.push(each);
      }
    for await (const page of this.#ec2.snapshotPages(ours))
      for (const view of page) {
        snapshots.set(view.id, view);
        const each = foundSnapshot(view);
        if ('why' in each) found.ignored.push(each);
        else if (each.snapshotId.startsWith(MOVE)) moves.push({ ...each, view });
        else found.snapshots.push(each);
      }
    this.#volumes = volumes;
    this.#snapshots = snapshots;
    this.#moves = moves.filter((move) => {
      const why = doubtOf(move, moves, { volumes, own: found.snapshots });
      if (why !== null) found.ignored.push({ name: move.name, why, diskId: move.diskId });
      return why === null;
    });
    return found;
  }

  behind(claim: string): Promise<string | null> {
    return this.#claims.volumeOf(claim);
  }

  /** With a snapshot, if it has one: those are there also when the volume is gone. */
  carrierOf({ id, claim, latest }: { id: string; claim: string | null; latest: string | null }): DiskCarrier | null {
    if (latest !== null) return { snapshot: latest };
    return claim === null ? null : { volume: claimName(id) };
  }

  async keep(diskId: string, carrier: DiskCarrier, record: string): Promise<boolean> {
    const [statement, values] = 'volume' in carrier ? [LIVE_VOLUME, [diskId]] : [OWN_SNAPSHOT, [diskId, carrier.snapshot]];
    const id = (await this.#db.query<{ id: string }>(statement, values)).rows[0]?.id;
    const read = readDiskRecord(record);
    if (id === undefined || !('record' in read)) return false;
    await this.#ec2.tag([id], { [TAG.diskName]: read.record.name, [TAG.record]: tagOf(read.record) });
    return true;
  }

  async adopt(tx: Queryable, diskId: string, volume: FoundVolume | null, snapshots: readonly FoundSnapshot[]): Promise<void> {
    const view = volume === null ? undefined : this.#volumes.get(volume.name);
    const numbers = [...this.#snapshots.values(), ...this.#volumes.values()]
      .filter(({ tags }) => tags[TAG.disk] === diskId)
      .map(({ tags }) => numberOf(tags));
    if (volume !== null && view !== undefined) {
      const { id, zone, sizeGb, fromSnapshot, createdAt } = view;
      await tx.query(ADOPT_VOLUME, [diskId, volume.generation, id, zone, sizeGb, fromSnapshot, createdAt ?? new Date()]);
    } else if (numbers.length > 0) await tx.query(KEEP_NUMBER, [diskId, Math.max(1, ...numbers)]);
    const moves = this.#moves.flatMap((move) => (move.diskId === diskId ? [move.view] : []));
    const own = snapshots.flatMap(({ name }) => this.#snapshots.get(name) ?? []);
    for (const { id, volumeId, state, startedAt, tags } of [...own, ...moves])
      await tx.query(ADOPT_SNAPSHOT, [tags[TAG.snapshot], diskId, volumeId, id, startedAt ?? new Date(), state]);
  }
}

const numberOf = (tags: Tags): number => {
  const number = Number(tags[TAG.generation]);
  return Number.isInteger(number) && number > 0 ? number : 1;
};

function foundVolume({
  id,
  state,
  sizeGb,
  attachments,
  createdAt,
  tags,
}: VolumeView): FoundVolume | { name: string; why: string } {
  const diskId = tags[TAG.disk] ?? '';
  if (!DISK_ID.test(diskId)) return { name: id, why: 'A volume with our tag that names no disk' };
  return {
    name: id,
    ...factsOf(diskId, tags),
    claim: claimName(diskId),
    attached: attachments.length > 0,
    sizeGb,
    createdAt: (createdAt ?? new Date(0)).toISOString(),
    unfit: state === 'available' || state === 'in-use' ? null : `EBS says that it is ${state}`,
  };
}

/** Others copy tags together with snapshots: one that has no number of ours, or was copied, is none of ours. */
function foundSnapshot({
  id,
  state,
  volumeId,
  sizeGb,
  bytes,
  startedAt,
  tags,
}: SnapshotView): FoundSnapshot | { name: string; why: string } {
  const diskId = tags[TAG.disk] ?? '';
  const snapshotId = tags[TAG.snapshot];
  if (!DISK_ID.test(diskId) || snapshotId === undefined)
    return { name: id, why: 'A snapshot with our tag that names no disk, or no snapshot of one: another program took it' };
  if (volumeId === NO_VOLUME) return { name: id, why: `A copy of a snapshot of the disk ${diskId}, made by another program` };
  return {
    name: id,
    snapshotId,
    volume: volumeId,
    ...factsOf(diskId, tags),
    complete: state === 'completed',
    sizeGb,
    sizeBytes: bytes ?? sizeGb * 2 ** 30,
    createdAt: (startedAt ?? new Date(0)).toISOString(),
  };
}

/** A snapshot that carried a disk to another zone, as its tags say. */
type FoundMove = FoundSnapshot & { view: SnapshotView };

/**
 * Why such a snapshot is none of this disk's, in words: it goes with the disk's next session, so it must be proven that we took it. Null: it is
 * of a volume that was this disk's, or a volume of this disk was made of it, and no other claims to be the same.
 */
function doubtOf(
  { name, snapshotId, diskId, generation, view }: FoundMove,
  moves: readonly FoundMove[],
  around: {
    volumes: ReadonlyMap<string, VolumeView>;
    own: readonly FoundSnapshot[];
  },
): string | null {
  const twin = moves.find((other) => other.snapshotId === snapshotId && other.name !== name);
  if (twin !== undefined) return `It claims to be the snapshot by which the disk ${diskId} was moved, and so does ${twin.name}`;
  const ofDisk = [...around.volumes.values()].filter(({ tags }) => tags[TAG.disk] === diskId);
  const captured = around.own.some((each) => each.diskId === diskId && each.volume === view.volumeId);
  const proven = captured || ofDisk.some(({ id, fromSnapshot }) => id === view.volumeId || fromSnapshot === name);
  if (proven && snapshotId === `${MOVE}${diskId}-${generation}`) return null;
  return `It claims to be a snapshot by which the disk ${diskId} was moved, and nothing proves that it is of one of its volumes`;
}

function factsOf(diskId: string, tags: Tags) {
  return {
    diskId,
    owner: tags[TAG.owner] ?? null,
    diskName: tags[TAG.diskName] ?? null,
    generation: numberOf(tags),
    record: recordOf(diskId, tags),
  };
}

/** The record as the value of a tag: words of letters, digits and a few signs, 256 characters at most. Owner and name have tags of their own. */
export function tagOf({ at, seq, sizeGb, latest, newest, createdAt, deleteAt, purged }: DiskRecord): string {
  const words: [string, string | number | null][] = [
    ['at', at],
    ['seq', seq],
    ['size', sizeGb],
    ['created', createdAt],
    ['delete', deleteAt],
    ['purged', purged ? 1 : null],
    ['latest', latest],
    ['newest', newest === latest ? null : (newest ?? '-')],
  ];
  return words.flatMap(([word, value]) => (value === null ? [] : [`${word}=${value}`])).join(' ');
}

/** The record that stands in tags, as text; null if there is none that is whole. */
function recordOf(diskId: string, tags: Tags): string | null {
  const { [TAG.record]: text, [TAG.owner]: owner = '', [TAG.diskName]: name = '' } = tags;
  if (text === undefined) return null;
  const words = new Map(text.split(' ').map((each) => each.split('=') as [string, string | undefined]));
  const word = (name: string) => words.get(name) ?? null;
  const latest = word('latest');
  const newest = words.has('newest') ? word('newest') : latest;
  const record: DiskRecord = {
    v: 1,
    id: diskId,
    owner,
    name,
    sizeGb: Number(word('size')),
    latest,
    newest: newest === '-' ? null : newest,
    createdAt: word('created') ?? '',
    deleteAt: word('delete'),
    purged: word('purged') === '1',
    at: word('at'),
    seq: Number(word('seq')),
  };
  const whole = readDiskRecord(JSON.stringify(record));
  return 'record' in whole ? writeRecord(whole.record) : null;
}
