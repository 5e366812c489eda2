/** The read model of reservations: one row each, written in the transaction of the turn that changed it. */
import type { ReservationContext } from '../../machines/reservation.context.ts';
import type { StoredSnapshot } from '../../persistence/actor-store.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { Change } from '../kernel/kind.ts';
import { subState, topState } from '../kernel/revive.ts';

const ENDED = ['expired', 'failed', 'cancelled'];

/** The row of a snapshot, without times of the turn. */
function rowOf(id: string, snapshot: StoredSnapshot) {
  const context = snapshot.context as ReservationContext;
  const { request, disk, jupyter, connection, outcome, oom } = context;
  const status = topState(snapshot.value);
  return {
    reservation_id: id,
    user_id: context.owner,
    status,
    substate: subState(snapshot.value),
    gpu_type: request.gpuType,
    gpu_count: request.gpuCount,
    duration_hours: request.durationHours,
    total_hours: context.totalHours,
    created_at: context.submittedAt,
    launched_at: context.launchedAt,
    expires_at: context.expiresAt,
    name: request.name,
    github_user: request.githubUser,
    image: context.image ?? request.image,
    pod_name: context.pod.name,
    node_name: context.grant?.node ?? null,
    node_ip: connection?.host ?? null,
    node_port: connection?.port ?? null,
    ssh_command: connection?.sshCommand ?? null,
    jupyter_enabled: jupyter.state === 'on' || jupyter.state === 'starting',
    jupyter_state: jupyter.state,
    jupyter_url: jupyter.url,
    jupyter_port: jupyter.port,
    jupyter_error: jupyter.error,
    disk_id: request.disk?.id ?? null,
    disk_name: request.disk?.name ?? null,
    snapshot_id: disk.snapshotId,
    failure_reason: outcome === null ? null : outcome.reason,
    // A user who could not be added is told of here, or nobody would hear of it.
    current_detailed_status: context.usersError === null ? context.detail : `${context.detail}. ${context.usersError}`,
    secondary_users: context.users,
    warnings_sent: context.warned,
    last_extension: context.lastExtension,
    oom_count: oom.count,
    last_oom_at: oom.lastAt,
    oom_container: oom.container,
    is_multinode: request.gang !== null,
    master_reservation_id: request.gang?.id ?? null,
    node_index: request.gang?.index ?? null,
    total_nodes: request.gang?.size ?? null,
    preserve_entrypoint: request.preserveEntrypoint,
    cli_version: request.clientVersion,
  };
}

type Row = ReturnType<typeof rowOf>;

export const UPSERT = `
  insert into reservations as r
  select n.reservation_id, n.user_id, n.status::reservation_status, n.substate, n.gpu_type, n.gpu_count,
         (select t.instance_type from gpu_types t where t.gpu_type = n.gpu_type), n.duration_hours, n.total_hours, n.created_at, $2, $2,
         n.launched_at, n.expires_at, case when n.ended then $2::timestamptz end, n.name, n.github_user, n.image, n.pod_name, n.node_name,
         n.node_ip, n.node_port, n.ssh_command, n.jupyter_enabled, n.jupyter_state, n.jupyter_url, n.jupyter_port, n.jupyter_error, n.disk_id,
         n.disk_name, n.snapshot_id, n.failure_reason, n.current_detailed_status, n.secondary_users, n.warnings_sent, n.last_extension,
         n.oom_count, n.last_oom_at, n.oom_container, n.is_multinode, n.master_reservation_id, n.node_index, n.total_nodes,
         n.preserve_entrypoint, n.cli_version
    from jsonb_to_recordset($1::jsonb) as n(
         reservation_id text, user_id text, status text, substate text, gpu_type text, gpu_count int, duration_hours float8, total_hours float8,
         created_at timestamptz, launched_at timestamptz, expires_at timestamptz, ended bool, name text, github_user text, image text,
         pod_name text, node_name text, node_ip text, node_port int, ssh_command text, jupyter_enabled bool, jupyter_state text,
         jupyter_url text, jupyter_port int, jupyter_error text, disk_id uuid, disk_name text, snapshot_id text, failure_reason text,
         current_detailed_status text, secondary_users jsonb, warnings_sent jsonb, last_extension jsonb, oom_count int, last_oom_at timestamptz,
         oom_container text, is_multinode bool, master_reservation_id text, node_index int, total_nodes int, preserve_entrypoint bool, cli_version text)
  on conflict (reservation_id) do update set
         status = excluded.status, substate = excluded.substate, total_hours = excluded.total_hours, updated_at = excluded.updated_at,
         state_entered_at = case when r.status = excluded.status then r.state_entered_at else excluded.state_entered_at end,
         launched_at = excluded.launched_at, expires_at = excluded.expires_at, reservation_ended = excluded.reservation_ended,
         image = excluded.image, pod_name = excluded.pod_name, node_name = excluded.node_name, node_ip = excluded.node_ip,
         node_port = excluded.node_port, ssh_command = excluded.ssh_command, jupyter_enabled = excluded.jupyter_enabled,
         jupyter_state = excluded.jupyter_state, jupyter_url = excluded.jupyter_url, jupyter_port = excluded.jupyter_port,
         jupyter_error = excluded.jupyter_error, snapshot_id = excluded.snapshot_id, failure_reason = excluded.failure_reason,
         current_detailed_status = excluded.current_detailed_status, secondary_users = excluded.secondary_users,
         warnings_sent = excluded.warnings_sent, last_extension = excluded.last_extension, oom_count = excluded.oom_count,
         last_oom_at = excluded.last_oom_at, oom_container = excluded.oom_container`;

export const ROUTES = `
  update domain_mappings m
     set node_ip = n.node_ip, node_port = n.node_port, expires_at = n.expires_at, updated_at = now()
    from jsonb_to_recordset($1::jsonb) as n(reservation_id text, node_ip text, node_port int, expires_at timestamptz)
   where m.reservation_id = n.reservation_id
     and (m.node_ip, m.node_port, m.expires_at) is distinct from (n.node_ip, n.node_port, n.expires_at)`;

function isSame(old: Row, row: Row): boolean {
  return (Object.keys(row) as (keyof Row)[]).every((column) => {
    const [before, after] = [old[column], row[column]];
    return before === after || (typeof after === 'object' && JSON.stringify(before) === JSON.stringify(after));
  });
}

/** Write the rows of a batch; what did not change for people is not written. */
export async function projectReservations(tx: Transaction, changes: readonly Change[]): Promise<void> {
  const rows: Row[] = [];
  const routes: Row[] = [];
  for (const { id, before, after } of changes) {
    const row = rowOf(id, after);
    const old = before === null ? null : rowOf(id, before);
    if (old !== null && isSame(old, row)) continue;
    rows.push(row);
    if ((old?.node_port ?? null) !== row.node_port || (old?.expires_at ?? null) !== row.expires_at) routes.push(row);
  }
  if (rows.length === 0) return;
  const json = rows.map((row) => ({ ...row, ended: ENDED.includes(row.status) }));
  tx.send(UPSERT, [JSON.stringify(json), changes[0]!.at]);
  if (routes.length > 0) tx.send(ROUTES, [JSON.stringify(routes)]);
}
