/** What a seed stands for: who asks for what and when, and what goes wrong. Plain data, so that parts of it can be left out. */
import { gzipSync } from 'node:zlib';
import { NO_NETWORK_FAULTS, type NetworkFaults } from './network.ts';
import { Random } from './random.ts';

export interface Op {
  at: number;
  door: 'http' | 'gpu_reservations' | 'disk_operations';
  body: Record<string, unknown>;
  /** How many more times it is sent. */
  repeats: number;
}

export type FaultKind =
  | 'crash'
  | 'freeze'
  | 'pod dies'
  | 'pod is deleted'
  | 'out of memory'
  | 'node is lost'
  | 'node is silent'
  | 'node is cordoned'
  | 'watch breaks'
  | 'maintenance'
  | 'work is deadly';

export interface Fault {
  at: number;
  kind: FaultKind;
  /** Which process, pod or node, modulo how many there are. */
  pick: number;
  /** How long it lasts, in milliseconds. */
  lasts: number;
}

export interface Rates {
  network: NetworkFaults;
  /** The database's connection is lost at a statement. */
  statementLost: number;
  commitLost: number;
  commitUnanswered: number;
  podNeverReady: number;
  podSlow: number;
  failing: number;
  watchLag: number;
  watchRepeats: number;
}

export interface Plan {
  seed: number;
  kernels: number;
  fleet: { gpuType: string; nodes: number; gpus: number }[];
  kernel: { actorsPerBatch: number; mailPerActor: number; rounds: number; effectConcurrency: number };
  /** Scheduling points passed in one breath, at most. */
  longestRun: number;
  volumesGo: boolean;
  /** Volumes stay on the node of their first pod. */
  volumesStay: boolean;
  /** Servers have names in DNS, and ways to their Jupyter. */
  named: boolean;
  ops: Op[];
  faults: Fault[];
  rates: Rates;
}

const MINUTE = 60_000;
const USERS = ['ann', 'bob', 'cleo'] as const;
const FAULTS: readonly FaultKind[] = [
  ...(['crash', 'crash', 'crash', 'freeze', 'freeze', 'pod dies', 'pod is deleted', 'out of memory'] as const),
  ...(['node is lost', 'node is silent', 'node is silent', 'node is cordoned', 'watch breaks', 'maintenance'] as const),
];

/** A build context: a tar.gz with a Dockerfile. */
function contextOf(text: string): string {
  const header = Buffer.alloc(512);
  header.write('Dockerfile', 0);
  header.write('0000644', 100);
  header.write(text.length.toString(8).padStart(11, '0'), 124);
  header.write(' '.repeat(8), 148);
  header.write('0', 156);
  header.write(
    `${header
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0`,
    148,
  );
  const body = Buffer.alloc(512);
  body.write(text);
  return gzipSync(Buffer.concat([header, body, Buffer.alloc(1024)])).toString('base64');
}
const CONTEXTS = ['FROM a', 'FROM b'].map(contextOf);

/** The plan of a seed. */
export function planOf(seed: number): Plan {
  const random = new Random(seed);
  const fleet = [{ gpuType: 't4', nodes: random.between(1, 2), gpus: 4 }];
  if (random.chance(0.5)) fleet.push({ gpuType: 'a100', nodes: 2, gpus: 8 });
  if (random.chance(0.2)) fleet.push({ gpuType: 'cpu-small', nodes: 1, gpus: 1 });
  const ops: Op[] = [];
  const rounds = random.between(2, 9);
  const span = random.between(2, 60) * MINUTE;
  for (let i = 0; i < rounds; i++)
    addGuest(
      random,
      ops,
      fleet.map(({ gpuType }) => gpuType),
      random.int(span),
    );
  if (random.chance(0.5)) addDiskWork(random, ops, span);
  for (const op of ops) if (random.chance(0.1)) op.repeats = random.between(1, 2);
  ops.sort((a, b) => a.at - b.at);
  const calm = random.chance(0.1);
  const faults: Fault[] = [];
  const end = span + 40 * MINUTE;
  for (let i = calm ? 0 : random.int(8); i > 0; i--) {
    const kind = random.pick(FAULTS);
    // Just longer than a lease is when two believe that they hold it.
    const short = kind === 'freeze' ? random.between(2_500, 8_000) : random.between(500, 10_000);
    const lasts = random.chance(0.6) ? short : random.between(10_000, 20 * MINUTE);
    faults.push({ at: random.int(end), kind, pick: random.int(1_000), lasts });
  }
  const plan: Plan = {
    seed,
    kernels: random.pick([1, 2, 2, 3]),
    fleet,
    kernel: {
      actorsPerBatch: random.pick([1, 3, 100]),
      mailPerActor: random.pick([1, 2, 50]),
      rounds: random.pick([0, 1, 4]),
      effectConcurrency: random.pick([1, 4, 64]),
    },
    longestRun: random.pick([2, 10, 40]),
    volumesGo: random.chance(0.5),
    volumesStay: seed % 3 === 0,
    named: seed % 2 === 0,
    ops,
    faults,
    rates: calm ? QUIET : ratesOf(random),
  };
  // One effect kills whoever runs it: not for long enough to be given up, or for longer than that.
  if (!calm && random.chance(0.15)) {
    const lasts = random.chance(0.6) ? random.int(20 * MINUTE) : 60 * MINUTE;
    faults.push({ at: random.int(end), kind: 'work is deadly', pick: random.int(1_000), lasts });
  }
  faults.sort((a, b) => a.at - b.at);
  return plan;
}

export const QUIET: Rates = {
  network: NO_NETWORK_FAULTS,
  statementLost: 0,
  commitLost: 0,
  commitUnanswered: 0,
  podNeverReady: 0,
  podSlow: 0,
  failing: 0,
  watchLag: 20,
  watchRepeats: 0,
};

function ratesOf(random: Random): Rates {
  const some = (most: number) => (random.chance(0.5) ? random.next() * most : 0);
  return {
    network: { slow: some(0.2), hang: some(0.12), refuse: some(0.15), unanswered: some(0.1), repeat: some(0.05) },
    statementLost: some(0.005),
    commitLost: some(0.02),
    commitUnanswered: some(0.02),
    podNeverReady: some(0.1),
    podSlow: some(0.2),
    failing: some(0.2),
    watchLag: random.pick([0, 20, 1_000, 10_000]),
    watchRepeats: some(0.2),
  };
}

/** One who asks for a server, or a gang of them, and does something with it. */
function addGuest(random: Random, ops: Op[], types: readonly string[], at: number): void {
  const user = random.pick(USERS);
  const gpuType = random.pick(types);
  const gang = gpuType === 'a100' && random.chance(0.3) ? { id: random.uuid(), size: 2 } : null;
  const body: Record<string, unknown> = {
    action: 'create_reservation',
    user_id: user,
    gpu_type: gpuType,
    duration_hours: random.pick([0.084, 0.1, 0.25, 0.55]),
    disk_name: random.chance(0.6) ? random.pick(['data', 'default']) : null,
    ...(random.chance(0.2) ? { on_disk_busy: 'fail' } : {}),
    ...(random.chance(0.15) ? { dockerfile: random.pick(CONTEXTS) } : {}),
    ...(random.chance(0.2) ? { jupyter_enabled: true } : {}),
    ...(random.chance(0.3) ? { name: random.pick(['box', 'www', 'My Box']) } : {}),
    ...(random.chance(0.05) ? { github_user: 'ghost' } : {}),
  };
  if (!gpuType.startsWith('cpu')) body['gpu_count'] = gang !== null ? 8 : random.pick(gpuType === 'a100' ? [1, 4, 8] : [1, 2, 4]);
  if (random.chance(0.04)) Object.assign(body, random.pick([{ gpu_count: 3 }, { gpu_type: 'none' }, { duration_hours: 100 }]));
  const missing = gang !== null && random.chance(0.2);
  for (let index = 0; index < (gang === null || missing ? 1 : gang.size); index++) {
    const id = random.uuid();
    const member =
      gang === null ? {} : { is_multinode: true, master_reservation_id: gang.id, node_index: index, total_nodes: gang.size };
    const when = at + (index === 0 ? 0 : random.int(20_000));
    ops.push({ at: when, door: doorOf(random), body: { ...body, ...member, reservation_id: id }, repeats: 0 });
    addWishes(random, ops, user, id, when);
  }
}

function doorOf(random: Random): Op['door'] {
  return random.chance(0.5) ? 'http' : 'gpu_reservations';
}

function addWishes(random: Random, ops: Op[], user: string, id: string, at: number): void {
  const early = random.chance(0.05) ? -random.int(30_000) : 0;
  for (let i = random.int(4); i > 0; i--) {
    const wish = random.pick([
      { action: 'cancel' },
      { action: 'extend', extension_hours: random.pick([0.1, 0.5, 47]) },
      { action: 'extend', extension_hours: 0.2 },
      { action: 'add_user', github_username: random.pick(['dora', 'ghost']) },
      { action: 'enable_jupyter' },
      { action: 'disable_jupyter' },
    ]);
    const by = random.chance(0.9) ? { user_id: user } : random.chance(0.5) ? { user_id: 'mallory' } : {};
    const key = random.chance(0.5) ? { operation_id: random.uuid() } : {};
    const later = early !== 0 ? early : random.chance(0.4) ? random.int(20_000) : random.int(40 * MINUTE);
    const door = 'user_id' in by ? doorOf(random) : 'gpu_reservations';
    ops.push({ at: Math.max(0, at + later), door, body: { ...wish, ...by, ...key, reservation_id: id }, repeats: 0 });
  }
}

function addDiskWork(random: Random, ops: Op[], span: number): void {
  for (let i = random.between(1, 6); i > 0; i--) {
    const user_id = random.pick(USERS);
    const disk_name = random.pick(['data', 'default', 'copy']);
    const body = random.pick([
      { action: 'create_disk', user_id, disk_name },
      { action: 'delete_disk', user_id, disk_name },
      { action: 'undelete_disk', user_id, disk_name },
      { action: 'clone_disk', user_id, source_disk: random.pick(['data', 'default']), target_disk: 'copy' },
      { action: 'clone_disk', user_id, source_disk: 'data', target_disk: `copy-${i}` },
    ]);
    const today = random.chance(0.3) && body.action === 'delete_disk' ? { delete_date: '2026-03-02' } : {};
    ops.push({
      at: random.int(span + 30 * MINUTE),
      door: 'disk_operations',
      body: { ...body, ...today, operation_id: random.uuid() },
      repeats: 0,
    });
  }
}
