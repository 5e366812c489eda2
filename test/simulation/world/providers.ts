/** The ports of the actors over the simulated cluster, one set for each process. */
import type { SnapshotProgress, Volumes as VolumesPort } from '../../../actors/disk/ports.ts';
import { NODE_NAME } from '../../../machines/disk.events.ts';
import { ServerGoneError, TerminalError } from '../../../actors/errors.ts';
import type { BuildProgress, ImageBuilder } from '../../../actors/image/ports.ts';
import type { DevServers, KeySource, ServerRef, ServerSpec } from '../../../actors/reservation/ports.ts';
import type { Published } from './names.ts';
import type { Network } from './network.ts';
import { Pods } from './pods.ts';
import type { Random } from './random.ts';
import type { Scheduler, Session } from './scheduler.ts';
import { Volumes } from './volumes.ts';

export interface Outside {
  network: Network;
  scheduler: Scheduler;
  random: Random;
  world: Session;
  pods: Pods;
  volumes: Volumes;
  builds: Map<string, { endsAt: number; fails: boolean }>;
  /** Volumes go when their snapshot is complete, as in a cloud, or stay. */
  volumesGo: boolean;
  /** Probability that a snapshot or a build fails. */
  failing: number;
  published: Published;
  /** True if the reservation is no longer served, by the committed rows. */
  isOver: (reservationId: string) => boolean;
  /** True if the reservation has moved on from this life, by the committed rows. */
  isLate: (server: ServerRef) => boolean;
  /** True if the rows want the disk purged. */
  isPurging: (diskId: string) => boolean;
  /** Disks, not purged, whose newest snapshot this is. */
  needers: (snapshotId: string) => string[];
  violated: (rule: string, what: string) => void;
}

export function serversOf(outside: Outside, session: Session): DevServers {
  const { network, pods, isLate } = outside;
  const living = ({ reservationId, generation }: ServerRef) => {
    const pod = pods.pods.get(Pods.nameOf(reservationId, generation));
    if (pod === undefined || pod.terminating) throw new ServerGoneError();
    return pod;
  };
  return {
    create: (spec: ServerSpec) =>
      network.call(session, 'create pod', () => {
        const pod = pods.create(spec, isLate(spec));
        for (const kind of ['ssh', 'access']) pods.access.set(`${kind}-${pod.name}`, pod.uid);
        const connection = { host: '10.0.0.1', port: 30_022, podName: pod.name, node: pod.node, sshCommand: 'ssh dev@10.0.0.1' };
        return { uid: pod.uid, name: pod.name, connection };
      }),
    restore: (spec: ServerSpec) =>
      network.call(session, 'restore access', () => {
        const pod = living(spec);
        for (const kind of ['ssh', 'access']) pods.access.set(`${kind}-${pod.name}`, pod.uid);
        const connection = { host: '10.0.0.1', port: 30_022, podName: pod.name, node: pod.node, sshCommand: 'ssh dev@10.0.0.1' };
        return { uid: pod.uid, name: pod.name, connection };
      }),
    remove: ({ reservationId, generation }, { force }) =>
      network.call(session, 'remove pod', () =>
        pods.remove(Pods.nameOf(reservationId, generation), force) ? ('gone' as const) : ('terminating' as const),
      ),
    exists: ({ reservationId, generation }) =>
      network.call(session, 'look for pod', () => pods.pods.has(Pods.nameOf(reservationId, generation))),
    removeAccess: ({ reservationId, generation }) =>
      network.call(session, 'remove access', () => {
        for (const name of [...pods.access.keys()]) {
          const [, id, life] = /gpu-dev-(.{36})-(\d+)$/.exec(name)!;
          if (id === reservationId && Number(life) <= generation) pods.access.delete(name);
        }
      }),
    setKeys: (server) => network.call(session, 'set keys', () => void living(server)),
    post: (server) => network.call(session, 'post notice', () => void living(server)),
    startJupyter: (server) =>
      network.call(session, 'start jupyter', () => {
        const pod = living(server);
        pods.access.set(`jupyter-${pod.name}`, pod.uid);
        return { url: 'http://10.0.0.1:30888/', port: 30_888 };
      }),
    stopJupyter: ({ reservationId, generation }) =>
      network.call(session, 'stop jupyter', () => void pods.access.delete(`jupyter-${Pods.nameOf(reservationId, generation)}`)),
  };
}

export function keysOf(outside: Outside, session: Session): KeySource {
  return {
    keysOf: (user) =>
      outside.network.call(session, 'read keys', () => {
        if (user === 'ghost') throw new TerminalError('The GitHub user ghost has no public keys');
        return [`ssh-ed25519 ${user}`];
      }),
  };
}

export function volumesOf(outside: Outside, session: Session): VolumesPort {
  const { network, volumes, violated } = outside;
  return {
    ensure: ({ diskId, sizeGb, snapshotId, expectVolume }) =>
      network.call(session, 'ensure volume', () => {
        const claim = Volumes.claimOf(diskId);
        const found = volumes.volumes.get(claim);
        if (found !== undefined) {
          found.sizeGb = Math.max(found.sizeGb, sizeGb);
          return { claim };
        }
        if (expectVolume) throw new TerminalError('The volume of this disk is missing');
        const source = snapshotId === null ? null : volumes.snapshots.get(snapshotId);
        if (source === undefined || source?.state === 'failed') throw new TerminalError(`There is no snapshot ${snapshotId}`);
        volumes.volumes.set(claim, { diskId, sizeGb, content: source?.content ?? 0, home: null, users: new Set() });
        return { claim };
      }),
    placeOf: (diskId) =>
      network.call(session, 'find volume', () => {
        const home = volumes.volumes.get(Volumes.claimOf(diskId))?.home ?? null;
        return home === null ? null : { anyOf: [{ [NODE_NAME]: [home] }], movable: false };
      }),
    detach: (diskId) =>
      network.call(session, 'detach volume', () =>
        (volumes.volumes.get(Volumes.claimOf(diskId))?.users.size ?? 0) === 0 ? ('detached' as const) : ('attached' as const),
      ),
    snapshot: (diskId, snapshotId) => network.call(session, 'snapshot volume', () => takeSnapshot(outside, diskId, snapshotId)),
    remove: (diskId, afterSnapshot) =>
      network.call(
        session,
        'remove volume',
        () => {
          const claim = Volumes.claimOf(diskId);
          const volume = volumes.volumes.get(claim);
          if (volume === undefined) return 'removed' as const;
          const snapshot = volumes.snapshots.get(afterSnapshot);
          if (snapshot?.state !== 'complete' || snapshot.content !== volume.content) {
            violated(
              'no disk without its last good snapshot',
              `${claim} is to be deleted, and ${afterSnapshot} does not hold it all`,
            );
          }
          if (volume.users.size > 0) violated('a volume in use stays', `${claim} is to be deleted while a server uses it`);
          if (!outside.volumesGo) return 'kept' as const;
          volumes.volumes.delete(claim);
          return 'removed' as const;
        },
        false,
      ),
    discard: (diskId, afterSnapshot) =>
      network.call(
        session,
        'discard volume',
        () => {
          const claim = Volumes.claimOf(diskId);
          const volume = volumes.volumes.get(claim);
          if (volume === undefined) return;
          const saved = volumes.snapshots.get(afterSnapshot);
          if (saved?.state !== 'complete' || saved.content !== volume.content)
            violated(
              'no disk without its last good snapshot',
              `${claim} is discarded, and ${afterSnapshot} does not hold it all`,
            );
          if (volume.users.size > 0) violated('a volume in use stays', `${claim} is discarded while a server uses it`);
          volumes.volumes.delete(claim);
        },
        false,
      ),
    removeSnapshot: (_diskId, snapshotId) =>
      network.call(session, 'remove snapshot', () => {
        const needed = outside.needers(snapshotId);
        if (needed.length > 0 && !needed.every((disk) => outside.isPurging(disk)))
          violated('no disk without its last good snapshot', `${snapshotId} is removed, and ${needed[0]} needs it`);
        volumes.snapshots.delete(snapshotId);
      }),
    purge: (diskId, snapshotIds) =>
      network.call(session, 'purge disk', () => {
        if (!outside.isPurging(diskId))
          violated('data goes only when it is purged', `disk ${diskId} is purged, and nobody asked for it`);
        for (const id of snapshotIds) {
          const needed = outside.needers(id).filter((other) => other !== diskId);
          if (needed.length > 0) violated('no disk without its last good snapshot', `${id} is purged, and ${needed[0]} needs it`);
          volumes.snapshots.delete(id);
        }
        volumes.volumes.delete(Volumes.claimOf(diskId));
      }),
  };
}

function takeSnapshot(outside: Outside, diskId: string, snapshotId: string): SnapshotProgress {
  const { volumes, random, scheduler, world, violated } = outside;
  const found = volumes.snapshots.get(snapshotId);
  if (found?.state === 'complete') return { state: 'complete', sizeBytes: 1 };
  if (found?.state === 'failed') return { state: 'failed', reason: 'the storage could not take it' };
  if (found !== undefined) return { state: 'pending', percent: 50 };
  const volume = volumes.volumes.get(Volumes.claimOf(diskId));
  if (volume === undefined) return { state: 'failed', reason: 'The volume of this disk is missing' };
  if (volume.users.size > 0) violated('a snapshot is taken of a quiet volume', `${snapshotId} while a server writes`);
  const snapshot = { diskId, content: volume.content, state: 'pending' as 'pending' | 'complete' | 'failed' };
  volumes.snapshots.set(snapshotId, snapshot);
  const fails = random.chance(outside.failing);
  scheduler.at(scheduler.now + random.between(10, random.chance(0.1) ? 60_000 : 2_000), world, () => {
    snapshot.state = fails ? 'failed' : 'complete';
  });
  return { state: 'pending', percent: 0 };
}

export function builderOf(outside: Outside, session: Session): ImageBuilder {
  const { network, builds, scheduler, random } = outside;
  return {
    build: ({ hash, attempt }) =>
      network.call(session, 'build image', (): BuildProgress => {
        const name = `${hash}-${attempt}`;
        const found = builds.get(name);
        if (found === undefined) {
          const slow = random.chance(outside.failing / 2) ? 1_000_000 : random.chance(0.1) ? 60_000 : 3_000;
          builds.set(name, { endsAt: scheduler.now + random.between(100, slow), fails: random.chance(outside.failing * 2) });
          return { state: 'running', detail: 'Building' };
        }
        if (found.endsAt > scheduler.now) return { state: 'running', detail: 'Building' };
        return found.fails ? { state: 'failed', reason: 'exit code 1' } : { state: 'succeeded', image: `registry/${hash}` };
      }),
    cancel: ({ hash, attempt }) => network.call(session, 'cancel build', () => void builds.delete(`${hash}-${attempt}`)),
  };
}
