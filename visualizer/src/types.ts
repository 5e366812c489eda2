// What the API answers, as far as the page uses it.

export type State =
  | 'queued'
  | 'building'
  | 'provisioning'
  | 'running'
  | 'extending'
  | 'snapshotting'
  | 'expired'
  | 'failed'
  | 'cancelled';

export type UserEvent = 'cancel' | 'extend' | 'add_user' | 'remove_user' | 'enable_jupyter' | 'disable_jupyter';

export interface Reservation {
  id: string;
  user_id: string;
  name: string;
  state: State;
  substate: string | null;
  detail: string | null;
  gpu_type: string;
  gpu_count: number;
  duration_hours: number;
  total_hours: number;
  created_at: string;
  launched_at: string | null;
  expires_at: string | null;
  ended_at: string | null;
  failure_reason: string | null;
  ssh_command: string | null;
  node: string | null;
  jupyter: { state: string; url: string | null; error: string | null };
  disk: { name: string; id: string; snapshot_id: string | null } | null;
  position: number | null;
  estimated_start: string | null;
  waits_because: string | null;
  secondary_users: string[];
  accepts: UserEvent[];
}

export interface ChartTransition {
  id: string;
  from: string;
  to: string | null;
  event: string | null;
  guard: string | null;
  actions: string[];
  description: string | null;
  otherwise: boolean;
}
export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}
export interface ChartNode extends Box {
  id: string;
  path: string;
  key: string;
  parent: string | null;
  type: 'atomic' | 'compound' | 'parallel' | 'final' | 'history' | 'initial' | 'any';
  description: string;
  tags: string[];
  entry: string[];
  exit: string[];
  initial: string[];
  stays: ChartTransition[];
}
export interface ChartEdge {
  id: string;
  source: string;
  target: string;
  transitions: ChartTransition[];
  points: [number, number][];
  label: Box;
  lines: string[];
}
export interface Chart {
  machine: string;
  version: string;
  description: string;
  width: number;
  height: number;
  nodes: ChartNode[];
  edges: ChartEdge[];
}

export type Numbers = Record<string, Record<string, number>>;
export interface LifecycleFrame {
  counts: Numbers;
  traffic: Numbers;
}

export interface Hold {
  slots: number[];
  user: string | null;
  name: string | null;
  state: State | null;
  since: string;
  until: string | null;
  planned: boolean;
  id?: string;
}
export interface BoardNode {
  node: string;
  gpu_type: string;
  slots: number;
  foreign: number;
  health: 'ok' | 'draining' | 'unhealthy';
  reason: string | null;
  holds: Hold[];
}
export interface Waiting {
  gpu_type: string;
  position: number;
  user: string;
  name: string | null;
  slots: number;
  hours: number;
  since: string;
  estimated_start: string | null;
  waits_because: string | null;
  id?: string;
}
export interface GpuType {
  gpu_type: string;
  description: string | null;
  total: number;
  free: number;
  in_use: number;
  queued: number;
  largest_fit: number;
  paused_because: string | null;
  maintenance: { reason: string; from: string; until: string | null } | null;
}
export interface BoardFrame {
  types: GpuType[];
  nodes: BoardNode[];
  waiting: Waiting[];
}
export interface BoardPatch {
  types?: GpuType[];
  nodes: BoardNode[];
  gone: string[];
  waiting?: Waiting[];
}

export interface Check {
  ok: boolean;
  detail: string;
}
export interface OperationsFrame {
  health: { database: Check; queue: Check; tracker: Check };
  totals: {
    mailbox: number;
    mailboxHeld: number;
    oldestMailSeconds: number;
    effectsPending: number;
    deadLettersOpen: number;
    quarantined: number;
    lateDeadlineSeconds: number;
  };
  trackerAgeSeconds: number | null;
  replicas: number;
  connections: Record<string, number>;
  databaseMs: number;
  leases: { name: string; holder: string; held: boolean }[];
  retries: {
    id: string;
    actor: string;
    type: string;
    attempts: number;
    running: boolean;
    next_at: string;
    created_at: string;
    last_error: string | null;
  }[];
  letters: number[];
}

export interface HistoryEntry {
  seq: number;
  at: string;
  type: string;
  outcome: 'applied' | 'ignored' | 'refused';
  reason: string | null;
  from: string | null;
  to: string | null;
  sender: string;
}
export interface Effect {
  id: string;
  seq: number;
  type: string;
  lane: string;
  status: string;
  running: boolean;
  attempts: number;
  created_at: string;
  next_at: string | null;
  ended_at: string | null;
  last_error: string | null;
}
export interface History {
  entries: HistoryEntry[];
  next_after: number | null;
  effects: Effect[];
  deadlines: { name: string; due_at: string; fired_at: string | null }[];
}
export interface Moment {
  seq: number;
  last_seq: number;
  at: string;
  type: string;
  outcome: 'applied' | 'ignored' | 'refused';
  reason: string | null;
  sender: string;
  event: Record<string, unknown>;
  before: string[];
  states: string[];
  context: Record<string, unknown> | null;
  changes: { path: string; before: unknown; after: unknown }[];
  asked: { do: string; what: string; at: string | null }[];
  effects: { id: string; type: string; attempts: number; status: string }[];
  deadlines: { name: string; due_at: string }[];
  accepts: { event: string; guarded: boolean; target: string | null }[];
  matches: boolean | null;
  problem: string | null;
}
export interface Span {
  path: string;
  seq: number;
  entered_at: string;
  left_at: string | null;
}

export interface Disk {
  id: string;
  name: string;
  size_gb: number;
  state: string;
  in_use_by: string | null;
  is_backing_up: boolean;
  is_deleted: boolean;
  delete_date: string | null;
  snapshot_count: number;
  last_snapshot_at: string | null;
  problem: string | null;
}
export interface DiskSnapshot {
  id: string;
  status: string;
  created_at: string;
  completed_at: string | null;
  size_bytes: number | null;
}
export interface DeadLetter {
  id: number;
  source: 'queue' | 'mailbox' | 'effect';
  queue: string | null;
  actor: string | null;
  code: string;
  field: string | null;
  reason: string;
  created_at: string;
  body: unknown;
}
export interface Resident {
  id: string;
  label: string;
  user_id: string | null;
  since: string;
}
