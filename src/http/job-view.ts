/** A reservation as a job: the names of the older paths, and what was missing there. */
import { z } from 'zod';
import type { QueuePlace } from '../../actors/gpu-pool/line-view.ts';
import type { JobRow } from '../../persistence/jobs.ts';
import { Problem } from '../errors.ts';
import { STATES } from './reservation-view.ts';

const Moment = z.string().meta({ format: 'date-time' });

export const JOB_STATUSES = ['queued', 'preparing', 'active', 'expired', 'failed', 'cancelled'] as const;
type JobStatus = (typeof JOB_STATUSES)[number];

/** Statuses of the older service that say the same as another of ours. */
const ALIASES: Record<string, JobStatus> = { pending: 'queued', creating_server: 'preparing', canceled: 'cancelled' };

export const Job = z
  .object({
    job_id: z.string(),
    reservation_id: z.string(),
    user_id: z.string(),
    status: z.enum(JOB_STATUSES),
    gpu_type: z.string(),
    gpu_count: z.number().int(),
    instance_type: z.string().nullable(),
    duration_hours: z.number().meta({ description: 'Hours granted in all, extensions included.' }),
    created_at: Moment,
    expires_at: Moment.nullable(),
    name: z.string(),
    pod_name: z.string().nullable(),
    node_ip: z.string().nullable(),
    node_port: z.number().int().nullable(),
    ssh_command: z.string().nullable(),
    jupyter_enabled: z.boolean(),
    jupyter_url: z.string().nullable(),
    jupyter_port: z.number().int().nullable(),
    jupyter_token: z
      .string()
      .nullable()
      .meta({ description: 'While Jupyter is on, of one job, for its owner, with a key of the scope `reserve`.' }),
    jupyter_error: z.string().nullable(),
    github_user: z.string().nullable(),
    disk_name: z.string().nullable(),
    state: z.enum(STATES).meta({ description: 'State of the reservation.' }),
    substate: z.string().nullable(),
    detail: z.string().nullable().meta({ description: 'What happens now, in words.' }),
    failure_reason: z.string().nullable().meta({ description: 'Why it ended, or is ending.' }),
    position: z.number().int().nullable().meta({ description: 'Place in the queue of its GPU type, from 1, while it waits.' }),
    estimated_start_time: Moment.nullable(),
    launched_at: Moment.nullable(),
    ended_at: Moment.nullable(),
    warnings_sent: z.array(z.number().int()),
    links: z.object({ reservation: z.string(), stream: z.string() }),
  })
  .meta({ description: 'A job: a reservation as older clients know it.' });
export type Job = z.infer<typeof Job>;

export function jobOf(row: JobRow, place: QueuePlace | null, token: string | null): Job {
  const { id, job_status: status, total_hours: hours, created_at, launched_at, expires_at, ended_at, ...rest } = row;
  const self = `/v1/reservations/${id}`;
  return {
    ...rest,
    job_id: id,
    reservation_id: id,
    status: status as JobStatus,
    state: row.state as Job['state'],
    duration_hours: hours,
    created_at: created_at.toISOString(),
    launched_at: launched_at?.toISOString() ?? null,
    expires_at: expires_at?.toISOString() ?? null,
    ended_at: ended_at?.toISOString() ?? null,
    jupyter_token: token,
    position: place?.position ?? null,
    estimated_start_time: place?.estimatedStart ?? null,
    links: { reservation: self, stream: `${self}/stream` },
  };
}

/** Statuses from a list separated by commas. @throws Problem naming those that are allowed */
export function statusesOf(list: string): JobStatus[] {
  return list.split(',').map((each) => {
    const name = each.trim().toLowerCase();
    const status = ALIASES[name] ?? JOB_STATUSES.find((known) => known === name);
    if (status !== undefined) return status;
    throw new Problem('GPU_FIELD_INVALID', `The field status: ${name.slice(0, 40)} is no status of a job`, {
      field: 'status',
      details: { allowed: JOB_STATUSES },
    });
  });
}
