/** What stands in every table, in Postgres and in memory, in one shape. */
import type { Tables } from '../store/schema.ts';
import type { Table } from '../store/tables.ts';

interface Dump {
  name: string;
  sql: string;
  // biome-ignore lint/suspicious/noExplicitAny: rows of any table.
  table: (tables: Tables) => Table<any>;
}

export const DUMPS: readonly Dump[] = [
  {
    name: 'actors',
    sql: `select actor, kind, machine_version as version, seq, status, state, snapshot, born_at as "bornAt", updated_at as "updatedAt",
                 quarantined_at as "quarantinedAt", quarantine_reason as "quarantineReason" from actors`,
    table: (tables) => tables.actors,
  },
  {
    name: 'mailbox',
    sql: `select id, actor, key, event, sender, sent_at as "sentAt", enqueued_at as "enqueuedAt", held, version from mailbox`,
    table: (tables) => tables.mailbox,
  },
  {
    name: 'history',
    sql: `select actor, seq, key, event, outcome, reason, from_state as "from", to_state as "to", leaf, machine_version as "machineVersion", sender,
                 sent_at as "sentAt", at from history`,
    table: (tables) => tables.history,
  },
  {
    name: 'checkpoints',
    sql: 'select actor, seq, machine_version as "machineVersion", snapshot, reason from checkpoints',
    table: (tables) => tables.checkpoints,
  },
  {
    name: 'effects',
    sql: `select effect_id as "effectId", actor, seq, index, type, lane, replaces, params, status, attempts, coalesce(takeovers, 0) as takeovers, next_at as "nextAt",
                 lease_token as "leaseToken", lease_until as "leaseUntil", last_error as "lastError", created_at as "createdAt",
                 ended_at as "endedAt" from effects`,
    table: (tables) => tables.effects,
  },
  {
    name: 'deadlines',
    sql: 'select actor, name, due_at as "dueAt", set_seq as "setSeq", fired_at as "firedAt" from deadlines',
    table: (tables) => tables.deadlines,
  },
  {
    name: 'dead_letters',
    sql: 'select source, queue, msg_id as "msgId", actor, key, body, code, field, reason, original, sender from dead_letters',
    table: (tables) => tables.deadLetters,
  },
  { name: 'leases', sql: 'select name, holder, token, until from leases', table: (tables) => tables.leases },
  {
    name: 'reservations',
    sql: `select reservation_id, user_id, status::text, created_at, updated_at, state_entered_at, launched_at, expires_at, reservation_ended,
                 master_reservation_id, current_detailed_status from reservations`,
    table: (tables) => tables.reservations,
  },
  {
    name: 'disks',
    sql: `select disk_id as "diskId", disk_name as name, user_id as owner, size_gb as "sizeGb", state, created_at as "createdAt",
                 last_used as "lastUsed", reservation_id as "reservationId", delete_date as "deleteDate", marked_deleted_at as "markedDeletedAt",
                 purged_at as "purgedAt", latest_snapshot_id as "latestSnapshot", volume_claim as claim, volume_place as place, problem,
                 is_backing_up as "isBackingUp", snapshot_count as "snapshotCount", pending_snapshot_count as "pendingSnapshotCount",
                 last_snapshot_at as "lastSnapshotAt", last_updated as "lastUpdated" from disks`,
    table: (tables) => tables.disks,
  },
  {
    name: 'disk_snapshots',
    sql: `select snapshot_id as "snapshotId", disk_id as "diskId", reservation_id as "reservationId", status, size_bytes as "sizeBytes", reason,
                 created_at as "createdAt", completed_at as "completedAt" from disk_snapshots`,
    table: (tables) => tables.diskSnapshots,
  },
  {
    name: 'operations',
    sql: `select operation_id as "operationId", user_id as owner, action, disk_id as "diskId", disk_name as "diskName", request, status,
                 error, code, updated_at as "updatedAt"
            from operations`,
    table: (tables) => tables.operations,
  },
  {
    name: 'domain_mappings',
    sql: `select domain_name as name, reservation_id as "reservationId", node_ip as "nodeIp", node_port as "nodePort",
                 expires_at as "expiresAt", updated_at as "updatedAt", fqdn, zone, published_at as "publishedAt", freed_at as "freedAt", problem
            from domain_mappings`,
    table: (tables) => tables.domains,
  },
  {
    name: 'alb_target_groups',
    sql: `select reservation_id as "reservationId", domain_name as "domainName", load_balancer as "loadBalancer", place, node,
                 node_port as "nodePort", jupyter_target_group_arn as "targetGroup", jupyter_rule_arn as rule, published_at as "publishedAt",
                 problem, updated_at as "updatedAt" from alb_target_groups`,
    table: (tables) => tables.routes,
  },
  { name: 'secrets', sql: 'select secret_ref as ref, owner, value from secrets', table: (tables) => tables.secrets },
  { name: 'build_contexts', sql: 'select hash, owner from build_contexts', table: (tables) => tables.contexts },
  {
    name: 'queue_failures',
    sql: 'select queue, msg_id as "msgId", tries, reason from queue_failures',
    table: (t) => t.queueFailures,
  },
  {
    name: 'nodes',
    sql: `select node, uid, gpu_type as "gpuType", ready, schedulable, reason, slots, foreign_slots as "foreignSlots", cpu_millis as "cpuMillis",
                 memory_bytes as "memoryBytes", foreign_cpu as "foreignCpu", foreign_memory as "foreignMemory", address, zone, labels
            from nodes`,
    table: (tables) => tables.nodes,
  },
  {
    name: 'gpu_slots',
    sql: `select gpu_type as "gpuType", node, slot, reservation_id as "reservationId", generation, held_since as "heldSince" from gpu_slots`,
    table: (tables) => tables.slots,
  },
  {
    name: 'capacity_requests',
    sql: `select reservation_id as "reservationId", gpu_type as "gpuType", owner, generation, slots, cpu_millis as "cpuMillis",
                 memory_bytes as "memoryBytes", duration_hours as "durationHours", node_labels as "nodeLabels", gang_id as "gangId",
                 gang_size as "gangSize", submitted_at as "submittedAt", status, node, granted_at as "grantedAt",
                 waits_because as "waitsBecause", place from capacity_requests`,
    table: (tables) => tables.requests,
  },
  {
    name: 'maintenance',
    sql: `select gpu_type as "gpuType", reason, allowed_users as allowed, from_at as "fromAt", until_at as "untilAt", asked_by as by from maintenance`,
    table: (tables) => tables.maintenance,
  },
  {
    name: 'gang_members',
    sql: 'select gang_id as "gangId", owner, node_index as "index", reservation_id as "reservationId", gpu_type as "gpuType", size from gang_members',
    table: (tables) => tables.gangMembers,
  },
  {
    name: 'gpu_availability',
    sql: `select gpu_type, total, free, in_use, queued, whole_nodes_free, largest_fit, paused_because, updated_at from gpu_availability`,
    table: (tables) => tables.availability,
  },
  {
    name: 'queue',
    sql: `select 'gpu_reservations' as queue, msg_id as "msgId", read_ct as "readCount", message from pgmq.q_gpu_reservations`,
    table: (tables) => tables.queues,
  },
];

/** One text for what means the same: times in milliseconds, keys in order. Columns that hold a time may be a number or a text. */
export function canonical(value: unknown, columns?: readonly string[]): unknown {
  if (value instanceof Date) return value.getTime();
  if (Array.isArray(value)) return value.map((each) => canonical(each));
  if (value === null || typeof value !== 'object') return value ?? null;
  if (Buffer.isBuffer(value)) return value.toString('base64');
  const names = columns ?? Object.keys(value);
  return Object.fromEntries(
    [...names].sort().map((name) => {
      const inner = (value as Record<string, unknown>)[name];
      const isTime = typeof inner === 'string' && /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(inner);
      return [name, isTime ? Date.parse(inner) : canonical(inner)];
    }),
  );
}
