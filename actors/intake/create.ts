/** From a create message to a whole request: defaults, known environment keys, rules of the catalogue. Pure, but for unpacking the build context. */
import type { ReservationRequest, StayPolicy } from '../../machines/reservation.context.ts';
import { GITHUB_NAME } from '../../machines/reservation.events.ts';
import { Problem } from '../problem.ts';
import { PROFILING_LABEL } from '../reservation/ports.ts';
import { redact } from '../secret.ts';
import { buildOf } from './build-context.ts';
import { countsOf, type GpuType, shareOf, slotsOf } from './catalogue.ts';
import { check, CreateMessage } from './messages.ts';

/** Defaults when a field is left out. Source: the settled questions of the design, 2 and 5. */
const DEFAULTS = { gpuType: 'a100', hours: 8, disk: 'default', sizeGb: 200 } as const;
/** Five minutes; 0.0833 is how producers write them. */
const SHORTEST_HOURS = 0.083;
/** Characters kept of a text in a field that we do not know. */
const LONGEST_EXTRA = 200;

/** A create message, understood. What is secret stands apart. */
export interface ParsedCreate {
  reservationId: string | null;
  owner: string;
  key: string | null;
  sentAt: string | null;
  /** Without ids of disk and secrets, which the door knows. */
  request: Omit<ReservationRequest, 'disk' | 'secretsRef' | 'name'>;
  /** Wished name; null lets one be chosen. */
  name: string | null;
  disk: { name: string; sizeGb: number; onBusy: 'wait' | 'fail' } | null;
  /** The size that the message itself names: only such a one makes a disk grow that is there already. */
  askedSizeGb: number | null;
  policy: StayPolicy;
  environment: Record<string, string>;
  build: { hash: string; archive: Buffer } | null;
}

/**
 * Understand a create message.
 * @throws Problem naming the field and, where there are some, the allowed values.
 */
export function parseCreate(body: unknown, catalogue: ReadonlyMap<string, GpuType>): ParsedCreate {
  const message = check(CreateMessage, body);
  const env = message.env_vars ?? {};
  const typeName = message.gpu_type ?? (env['GPU_TYPE']?.trim().toLowerCase() || DEFAULTS.gpuType);
  const type = catalogue.get(typeName);
  if (type === undefined) {
    throw new Problem(
      'GPU_TYPE_UNKNOWN',
      `The GPU type ${typeName.slice(0, 64)} is unknown; known are ${[...catalogue.keys()].join(', ')}`,
      {
        field: 'gpu_type',
        details: { allowed: [...catalogue.keys()] },
      },
    );
  }
  const gpuCount = message.gpu_count ?? numberOf(env['GPU_COUNT'], 'env_vars.GPU_COUNT') ?? (type.maxGpus === 0 ? 0 : 1);
  const gang = gangOf(message, type, gpuCount);
  checkCount(type, gpuCount);
  const durationHours = message.duration_hours ?? DEFAULTS.hours;
  checkDuration(type, durationHours);
  const slots = slotsOf(type, gpuCount);
  const build = message.dockerfile ? buildOf(message.dockerfile) : null;
  const known = new Set(Object.keys(CreateMessage.shape));

  return {
    reservationId: message.reservation_id?.toLowerCase() ?? null,
    owner: message.user_id,
    key: message.operation_id ?? message.idempotency_key ?? null,
    sentAt: momentOf(message.submitted_at ?? message.created_at ?? message.requested_at),
    name: (message.name ?? env['POD_NAME'] ?? '').trim() || null,
    request: {
      gpuType: type.gpuType,
      gpuCount,
      durationHours,
      githubUser: message.github_user ?? githubUserOf(env['GITHUB_USER']),
      image: message.dockerimage ?? message.image ?? null,
      buildHash: build?.hash ?? null,
      jupyter: message.jupyter_enabled ?? truthy(env['JUPYTER_ENABLED']),
      preserveEntrypoint: message.preserve_entrypoint ?? truthy(env['PRESERVE_ENTRYPOINT']),
      recreateEnv: message.recreate_env ?? truthy(env['RECREATE_ENV']),
      command: message.command ?? null,
      nodeLabels: nodeLabelsOf(message),
      gang,
      clientVersion: message.version ?? null,
      extra: extraOf(
        Object.entries(message).filter(([field]) => !known.has(field) && !['action', 'type', 'status'].includes(field)),
      ),
    },
    disk: diskOf(message, body as Record<string, unknown>),
    askedSizeGb: message.disk_size_gb ?? null,
    policy: { maxTotalHours: type.maxTotalHours, slots, ...shareOf(type, slots) },
    environment: env,
    build,
  };
}

/** Fields that we do not know stay for whoever asks later: without secrets, and no longer than a person would read. */
function extraOf(fields: readonly [string, unknown][]): Record<string, unknown> {
  const cut = (value: unknown): unknown => {
    if (typeof value === 'string') return value.length > LONGEST_EXTRA ? `${value.slice(0, LONGEST_EXTRA)}…` : value;
    if (Array.isArray(value)) return value.map(cut);
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, cut(inner)]));
  };
  return cut(redact(Object.fromEntries(fields))) as Record<string, unknown>;
}

/** How older clients ask for a node where GPUs may be profiled. */
const OLD_PROFILING_LABEL = 'nsight';

/** Labels that a node must bear. Whoever wants to profile says so by a flag, or as older clients do; the need is as hard as any other. */
function nodeLabelsOf(message: CreateMessage): Record<string, string> {
  const { [OLD_PROFILING_LABEL]: old, ...labels } = message.node_labels ?? {};
  const wanted = message.profiling ?? truthy(old);
  return wanted ? { ...labels, [PROFILING_LABEL]: 'true' } : labels;
}

/** Absent: the disk called default. null, "none" or no_persistent_disk: none. */
function diskOf(message: CreateMessage, body: Record<string, unknown>): ParsedCreate['disk'] {
  if (message.no_persistent_disk === true || body['disk_name'] === null || message.disk_name === 'none') return null;
  return {
    name: message.disk_name ?? DEFAULTS.disk,
    sizeGb: message.disk_size_gb ?? DEFAULTS.sizeGb,
    onBusy: message.on_disk_busy ?? 'wait',
  };
}

function checkCount(type: GpuType, gpuCount: number): void {
  const allowed = countsOf(type);
  if (allowed.includes(gpuCount)) return;
  throw new Problem(
    'GPU_COUNT_INVALID',
    `${gpuCount} GPUs of ${type.gpuType} cannot be reserved on one node; allowed are ${allowed.join(', ')}`,
    {
      field: 'gpu_count',
      details: { allowed },
    },
  );
}

function checkDuration(type: GpuType, hours: number): void {
  if (hours >= SHORTEST_HOURS && hours <= type.maxHours) return;
  throw new Problem(
    'GPU_DURATION_INVALID',
    `${hours} hours of ${type.gpuType} cannot be reserved; allowed are 5 minutes to ${type.maxHours} hours`,
    {
      field: 'duration_hours',
      details: { minimum: 5 / 60, maximum: type.maxHours },
    },
  );
}

/** A gang comes as one message per node: whole nodes, one master id. */
function gangOf(message: CreateMessage, type: GpuType, gpuCount: number): ReservationRequest['gang'] {
  if (message.is_multinode !== true) return null;
  const { master_reservation_id: id, node_index: index, total_nodes: size } = message;
  if (!id)
    throw new Problem('GPU_FIELD_MISSING', 'A member of a gang names its master_reservation_id', {
      field: 'master_reservation_id',
    });
  if (size === null || size === undefined || size < 2 || size > type.maxGangNodes) {
    throw new Problem('GPU_FIELD_INVALID', `total_nodes of a gang of ${type.gpuType} must be 2 to ${type.maxGangNodes}`, {
      field: 'total_nodes',
    });
  }
  if (index === null || index === undefined || index >= size) {
    throw new Problem('GPU_FIELD_INVALID', `node_index must be 0 to ${size - 1}`, { field: 'node_index' });
  }
  if (gpuCount !== type.maxPerNode) {
    throw new Problem('GPU_COUNT_INVALID', `A gang takes whole nodes: gpu_count of ${type.gpuType} must be ${type.maxPerNode}`, {
      field: 'gpu_count',
    });
  }
  return { id: id.toLowerCase(), index, size };
}

function truthy(value: string | undefined): boolean {
  return value === 'true' || value === '1';
}

function numberOf(value: string | undefined, field: string): number | null {
  if (value === undefined || value === '') return null;
  const number = Number(value);
  if (Number.isInteger(number) && number >= 0) return number;
  throw new Problem('GPU_FIELD_INVALID', `The field ${field} must be a whole number`, { field });
}

function githubUserOf(value: string | undefined): string | null {
  if (value === undefined || value === '') return null;
  if (GITHUB_NAME.test(value)) return value;
  throw new Problem('GPU_FIELD_INVALID', 'The field env_vars.GITHUB_USER must be a GitHub user name', {
    field: 'env_vars.GITHUB_USER',
  });
}

/** A sender's time; one without a zone is read as UTC, one that is no time is dropped. */
export function momentOf(value: string | null | undefined): string | null {
  if (!value) return null;
  const zoned = /(Z|[+-]\d\d:?\d\d)$/.test(value) ? value : `${value}Z`;
  const time = new Date(zoned);
  // Nor is one that only a program could mean: the database knows no year of six digits.
  return Number.isNaN(time.getTime()) || time.getUTCFullYear() < 1 || time.getUTCFullYear() > 9999 ? null : time.toISOString();
}
