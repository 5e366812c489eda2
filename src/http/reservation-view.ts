/** A reservation as the API shows it. */
import { z } from 'zod';
import type { QueuePlace } from '../../actors/gpu-pool/line-view.ts';
import type { ActorKind } from '../../actors/kernel/kind.ts';
import type { ReservationContext } from '../../machines/reservation.context.ts';
import type { ReservationRow } from '../../persistence/reservations.ts';
import { acceptedBy, USER_EVENTS } from './accepted.ts';

const Moment = z.string().meta({ format: 'date-time' });

export const STATES = [
  'queued',
  'building',
  'provisioning',
  'running',
  'extending',
  'snapshotting',
  'expired',
  'failed',
  'cancelled',
] as const;
/** Those that have not ended. */
export const LIVE: readonly string[] = STATES.slice(0, 6);

export const ReservationView = z
  .object({
    id: z.string(),
    user_id: z.string(),
    name: z.string(),
    state: z.enum(STATES).meta({ description: 'Top-level state.' }),
    substate: z.string().nullable().meta({ description: 'The step within the state, dotted.' }),
    detail: z.string().nullable().meta({ description: 'What happens now, in words.' }),
    gpu_type: z.string(),
    gpu_count: z.number().int(),
    duration_hours: z.number(),
    total_hours: z.number().meta({ description: 'Hours granted in all, extensions included.' }),
    created_at: Moment,
    launched_at: Moment.nullable(),
    expires_at: Moment.nullable(),
    ended_at: Moment.nullable(),
    failure_reason: z.string().nullable().meta({ description: 'Why it ended, or is ending.' }),
    ssh_command: z.string().nullable(),
    hostname: z
      .object({ name: z.string(), published: z.boolean(), problem: z.string().nullable() })
      .nullable()
      .meta({ description: 'Its name in DNS, and whether it stands there; null where servers have none.' }),
    node: z.string().nullable(),
    node_port: z.number().int().nullable(),
    jupyter: z.object({ state: z.string(), url: z.string().nullable(), error: z.string().nullable() }),
    disk: z.object({ name: z.string(), id: z.string(), snapshot_id: z.string().nullable() }).nullable(),
    position: z.number().int().nullable().meta({ description: 'Place in the queue of its GPU type, from 1, while it waits.' }),
    estimated_start: Moment.nullable().meta({ description: 'Null when no known end leads to a start.' }),
    waits_because: z.string().nullable(),
    warnings_sent: z.array(z.number().int()).meta({ description: 'Minutes before the end, since the last extension.' }),
    last_extension: z.object({ hours: z.number(), granted: z.boolean(), reason: z.string().nullable(), at: Moment }).nullable(),
    secondary_users: z.array(z.string()).meta({ description: 'GitHub names of the users added.' }),
    oom: z.object({ count: z.number().int(), last_at: Moment.nullable() }),
    gang_id: z.string().nullable(),
    links: z.object({ self: z.string(), stream: z.string().meta({ description: 'What happens to it, as server-sent events.' }) }),
    accepts: z.array(z.enum(USER_EVENTS)).meta({ description: 'The user events that it accepts now.' }),
  })
  .meta({ description: 'A reservation.' });
export type ReservationView = z.infer<typeof ReservationView>;

/** The view of a row. `place` is its place in the line, if it waits there. */
export function viewOf(row: ReservationRow, place: QueuePlace | null, kind: ActorKind | undefined): ReservationView {
  return {
    id: row.id,
    user_id: row.user_id,
    name: row.name,
    state: row.status as ReservationView['state'],
    substate: row.substate,
    detail: row.detail,
    gpu_type: row.gpu_type,
    gpu_count: row.gpu_count,
    duration_hours: row.duration_hours,
    total_hours: row.total_hours,
    created_at: row.created_at.toISOString(),
    launched_at: iso(row.launched_at),
    expires_at: iso(row.expires_at),
    ended_at: iso(row.ended_at),
    failure_reason: row.failure_reason,
    ssh_command: row.ssh_command,
    hostname: hostnameOf(row),
    node: row.node,
    node_port: row.node_port,
    jupyter: { state: row.jupyter_state, url: row.jupyter_url, error: row.jupyter_error },
    disk: row.disk_id === null ? null : { name: row.disk_name ?? '', id: row.disk_id, snapshot_id: row.snapshot_id },
    position: place?.position ?? null,
    estimated_start: place?.estimatedStart ?? null,
    waits_because: place?.reason ?? null,
    warnings_sent: row.warnings_sent,
    last_extension: row.last_extension,
    secondary_users: row.secondary_users,
    oom: { count: row.oom_count, last_at: iso(row.last_oom_at) },
    gang_id: row.gang_id,
    links: { self: `/v1/reservations/${row.id}`, stream: `/v1/reservations/${row.id}/stream` },
    accepts: acceptedBy(row, kind),
  };
}

/** From the snapshot: what it was born with, and what it was told since. */
function hostnameOf({ name, snapshot, name_problem: problem }: ReservationRow): ReservationView['hostname'] {
  const { domain, hostname } = (snapshot?.context ?? {}) as Partial<Pick<ReservationContext, 'domain' | 'hostname'>>;
  if (domain == null) return null;
  return { name: `${name}.${domain}`, published: hostname?.name != null, problem: hostname?.problem ?? problem };
}

function iso(date: Date | null): string | null {
  return date === null ? null : date.toISOString();
}
