/** The tables of the service, in memory. Times are milliseconds since the epoch; JSON is parsed. */
import type { VolumePlace } from '../../../machines/disk.events.ts';
import type { StoredSnapshot } from '../../../persistence/actor-store.ts';
import { AdvisoryLock, Table } from './tables.ts';

export interface ActorRow {
  actor: string;
  kind: string;
  version: number;
  seq: number;
  status: 'unborn' | StoredSnapshot['status'];
  state: string | null;
  snapshot: StoredSnapshot | null;
  bornAt: number | null;
  updatedAt: number;
  quarantinedAt: number | null;
  quarantineReason: string | null;
}

export interface MailboxRow {
  id: number;
  actor: string;
  key: string;
  event: { type: string; [key: string]: unknown };
  sender: string;
  sentAt: number | null;
  enqueuedAt: number;
  held: boolean;
  version: number;
}

export interface HistoryRow {
  actor: string;
  seq: number;
  key: string;
  event: { type: string; at: string; [key: string]: unknown };
  outcome: 'applied' | 'ignored' | 'refused';
  reason: string | null;
  from: string | null;
  to: string | null;
  leaf: string | null;
  machineVersion: number;
  sender: string;
  sentAt: number | null;
  at: number;
}

export interface CheckpointRow {
  actor: string;
  seq: number;
  machineVersion: number;
  snapshot: StoredSnapshot;
  reason: string;
}

export interface EffectRow {
  effectId: string;
  actor: string;
  seq: number;
  index: number;
  type: string;
  lane: string;
  replaces: boolean;
  params: { type: string; [key: string]: unknown };
  status: 'pending' | 'done' | 'failed' | 'superseded';
  attempts: number;
  takeovers: number;
  nextAt: number;
  leaseToken: string | null;
  leaseUntil: number | null;
  lastError: string | null;
  createdAt: number;
  endedAt: number | null;
}

export interface DeadlineRow {
  actor: string;
  name: string;
  dueAt: number;
  setSeq: number;
  firedAt: number | null;
}

export interface DeadLetterRow {
  id: number;
  source: string;
  queue: string | null;
  msgId: number | null;
  actor: string | null;
  key: string | null;
  body: unknown;
  code: string;
  field: string | null;
  reason: string;
  original: unknown;
  sender: string | null;
}

export interface LeaseRow {
  name: string;
  holder: string;
  token: number;
  until: number;
}

/** A row whose columns only people read, as it was written. */
export type Columns = Record<string, unknown>;

export interface DiskRow {
  diskId: string;
  name: string;
  owner: string;
  sizeGb: number;
  state: string;
  createdAt: number;
  lastUsed: number | null;
  reservationId: string | null;
  deleteDate: number | null;
  markedDeletedAt: number | null;
  purgedAt: number | null;
  latestSnapshot: string | null;
  claim: string | null;
  place: VolumePlace | null;
  problem: string | null;
  isBackingUp: boolean;
  snapshotCount: number;
  pendingSnapshotCount: number;
  lastSnapshotAt: number | null;
  lastUpdated: number;
}

export interface DiskSnapshotRow {
  snapshotId: string;
  diskId: string;
  reservationId: string | null;
  status: 'pending' | 'complete' | 'failed' | 'removing';
  sizeBytes: number | null;
  reason: string | null;
  createdAt: number;
  completedAt: number | null;
}

export interface OperationRow {
  operationId: string;
  owner: string;
  action: string;
  diskId: string | null;
  status: 'pending' | 'completed' | 'failed';
  error: string | null;
  code: string | null;
  diskName: string | null;
  request: unknown;
  updatedAt: number;
}

export interface DomainRow {
  name: string;
  reservationId: string;
  nodeIp: string | null;
  nodePort: number | null;
  expiresAt: number | null;
  updatedAt: number;
  fqdn: string | null;
  zone: string | null;
  publishedAt: number | null;
  freedAt: number | null;
  problem: string | null;
}

/** A way to the Jupyter of a server. */
export interface RouteRow {
  reservationId: string;
  domainName: string;
  loadBalancer: string;
  place: number | null;
  node: string | null;
  nodePort: number | null;
  targetGroup: string | null;
  rule: string | null;
  publishedAt: number | null;
  problem: string | null;
  updatedAt: number;
}

export interface SecretRow {
  ref: string;
  owner: string;
  value: Columns;
}

export interface QueueRow {
  queue: string;
  msgId: number;
  readCount: number;
  enqueuedAt: number;
  visibleAt: number;
  message: unknown;
  archived: boolean;
}

export interface QueueFailureRow {
  queue: string;
  msgId: number;
  tries: number;
  reason: string;
}

export interface NodeRow {
  node: string;
  uid: string;
  gpuType: string;
  ready: boolean;
  schedulable: boolean;
  reason: string | null;
  slots: number;
  foreignSlots: number;
  cpuMillis: number;
  memoryBytes: number;
  foreignCpu: number;
  foreignMemory: number;
  address: string | null;
  zone: string | null;
  labels: Record<string, string>;
}

export interface SlotRow {
  gpuType: string;
  node: string;
  slot: number;
  reservationId: string | null;
  generation: number | null;
  heldSince: number | null;
}

export interface RequestRow {
  reservationId: string;
  gpuType: string;
  owner: string;
  generation: number;
  slots: number;
  cpuMillis: number;
  memoryBytes: number;
  durationHours: number;
  nodeLabels: Record<string, string>;
  gangId: string | null;
  gangSize: number | null;
  place: VolumePlace | null;
  submittedAt: number;
  status: 'waiting' | 'granted';
  node: string | null;
  grantedAt: number | null;
  waitsBecause: string | null;
}

export interface GangMemberRow {
  gangId: string;
  owner: string;
  index: number | null;
  reservationId: string;
  gpuType: string;
  size: number;
}

export interface GpuTypeRow {
  gpuType: string;
  instanceType: string;
  resourceName: string | null;
  maxGpus: number;
  maxPerNode: number;
  maxGangNodes: number;
  cpus: number;
  memoryGb: number;
  cpuShare: number;
  memoryShare: number;
  efaCount: number;
  maxHours: number;
  maxTotalHours: number;
  isActive: boolean;
}

export interface MaintenanceRow {
  gpuType: string;
  reason: string;
  allowed: string[];
  fromAt: number;
  untilAt: number | null;
  by: string;
}

export class Tables {
  readonly actors = new Table<ActorRow>('actors', { key: (row) => row.actor, hot: (row) => row.status !== 'done' });
  readonly mailbox = new Table<MailboxRow>('mailbox', {
    key: (row) => `${row.actor}\n${row.key}`,
    unique: [(row) => String(row.id)],
    group: (row) => row.actor,
  });
  readonly history = new Table<HistoryRow>('history', {
    key: (row) => `${row.actor}\n${row.key}`,
    unique: [(row) => `${row.actor}\n${row.seq}`],
    group: (row) => row.actor,
    hot: () => false,
  });
  readonly checkpoints = new Table<CheckpointRow>('checkpoints', { key: (row) => `${row.actor}\n${row.seq}` });
  readonly effects = new Table<EffectRow>('effects', {
    key: (row) => row.effectId,
    group: (row) => row.actor,
    hot: (row) => row.status === 'pending',
  });
  readonly deadlines = new Table<DeadlineRow>('deadlines', {
    key: (row) => `${row.actor}\n${row.name}`,
    group: (row) => row.actor,
  });
  readonly deadLetters = new Table<DeadLetterRow>('dead_letters', { key: (row) => String(row.id) });
  readonly leases = new Table<LeaseRow>('leases', { key: (row) => row.name });
  readonly gpuTypes = new Table<GpuTypeRow>('gpu_types', { key: (row) => row.gpuType });
  readonly reservations = new Table<Columns>('reservations', { key: (row) => row['reservation_id'] as string });
  readonly disks = new Table<DiskRow>('disks', {
    key: (row) => row.diskId,
    unique: [(row) => (row.purgedAt === null ? `${row.owner}\n${row.name}` : null), (row) => row.reservationId],
  });
  readonly diskSnapshots = new Table<DiskSnapshotRow>('disk_snapshots', {
    key: (row) => row.snapshotId,
    group: (row) => row.diskId,
  });
  readonly operations = new Table<OperationRow>('operations', { key: (row) => row.operationId });
  readonly domains = new Table<DomainRow>('domain_mappings', { key: (row) => row.name, unique: [(row) => row.reservationId] });
  readonly servedDomain = new Table<{ domain: string }>('served_domain', { key: () => '' });
  readonly routes = new Table<RouteRow>('alb_target_groups', {
    key: (row) => row.reservationId,
    unique: [(row) => (row.place === null ? null : `${row.loadBalancer}\n${row.place}`)],
  });
  readonly secrets = new Table<SecretRow>('secrets', { key: (row) => row.ref });
  readonly contexts = new Table<{ hash: string; owner: string }>('build_contexts', { key: (row) => row.hash });
  readonly queues = new Table<QueueRow>('pgmq', { key: (row) => `${row.queue}\n${row.msgId}`, hot: (row) => !row.archived });
  readonly queueFailures = new Table<QueueFailureRow>('queue_failures', { key: (row) => `${row.queue}\n${row.msgId}` });
  readonly nodes = new Table<NodeRow>('nodes', { key: (row) => row.node });
  readonly slots = new Table<SlotRow>('gpu_slots', { key: (row) => `${row.node}\n${row.slot}`, group: (row) => row.node });
  readonly requests = new Table<RequestRow>('capacity_requests', { key: (row) => row.reservationId });
  readonly gangMembers = new Table<GangMemberRow>('gang_members', { key: (row) => row.reservationId });
  readonly maintenance = new Table<MaintenanceRow>('maintenance', { key: (row) => row.gpuType });
  readonly catalogueVersion = new Table<{ id: string; version: number }>('catalogue_version', { key: (row) => row.id });
  readonly availability = new Table<Columns & { gpu_type: string }>('gpu_availability', { key: (row) => row.gpu_type });
  readonly slotsLock = new AdvisoryLock();
  /** Identity columns: a number that was given out is gone, whether or not its transaction commits. */
  lastMailId = 0;
  lastLetterId = 0;
  lastMsgId = 0;
}
