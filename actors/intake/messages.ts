/** The shapes of messages as producers send them, and how field errors are told. */
import { z } from 'zod';
import { GITHUB_NAME } from '../../machines/reservation.events.ts';
import { Problem } from '../problem.ts';

/** Users come as e-mail addresses, GitHub names or session names. Nothing that a shell, SQL or a label would mind. */
export const UserName = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._@+-]*$/, 'must be letters, digits and . _ @ + - only');
export const DiskName = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[a-zA-Z0-9_-]+$/, 'must be letters, digits, _ and - only');
const GithubName = z.string().regex(GITHUB_NAME, 'must be a GitHub user name');
const Label = z
  .string()
  .max(63)
  .regex(/^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$/, 'must be a Kubernetes label value');
const LabelKey = z
  .string()
  .max(253)
  .regex(/^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$/, 'must be a Kubernetes label key');
const EnvName = z
  .string()
  .max(256)
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be a name of an environment variable');
const Text = z.string().max(4_096);
/** What producers write for "true". */
const Flag = z.union([
  z.boolean(),
  z.enum(['true', 'false', '1', '0', '']).transform((value) => value === 'true' || value === '1'),
]);
/** An image reference; nothing that could be taken for an option or a path. */
const ImageRef = z
  .string()
  .max(512)
  .regex(/^[a-z0-9][A-Za-z0-9._:/@-]*$/, 'must be an image reference');
const OperationKey = z.string().min(1).max(200);

/** Fields common to everything. */
const common = {
  user_id: UserName.nullish(),
  username: UserName.nullish(),
  operation_id: OperationKey.nullish(),
  idempotency_key: OperationKey.nullish(),
  version: z.string().max(64).nullish(),
  requested_at: z.string().max(64).nullish(),
  created_at: z.string().max(64).nullish(),
  submitted_at: z.string().max(64).nullish(),
};

export const CreateMessage = z.looseObject({
  ...common,
  user_id: UserName,
  reservation_id: z.uuid().nullish(),
  job_id: z.string().max(64).nullish(),
  gpu_type: z
    .string()
    .max(64)
    .transform((type) => type.trim().toLowerCase())
    .nullish(),
  gpu_count: z.number().int().min(0).nullish(),
  duration_hours: z.number().positive().nullish(),
  name: Text.nullish(),
  github_user: GithubName.nullish(),
  jupyter_enabled: Flag.nullish(),
  image: ImageRef.nullish(),
  dockerimage: ImageRef.nullish(),
  dockerfile: z.string().max(4_000_000).nullish(),
  preserve_entrypoint: Flag.nullish(),
  recreate_env: Flag.nullish(),
  disk_name: DiskName.nullish(),
  disk_size_gb: z.number().int().min(1).max(16_384).nullish(),
  no_persistent_disk: Flag.nullish(),
  on_disk_busy: z.enum(['wait', 'fail']).nullish(),
  env_vars: z.record(EnvName, z.union([z.string().max(131_072), z.number(), z.boolean()]).transform(String)).nullish(),
  command: z.string().max(65_536).nullish(),
  node_labels: z.record(LabelKey, Label).nullish(),
  profiling: Flag.nullish(),
  instance_type: z.string().max(100).nullish(),
  is_multinode: Flag.nullish(),
  master_reservation_id: z.uuid().nullish(),
  node_index: z.number().int().min(0).nullish(),
  total_nodes: z.number().int().min(1).nullish(),
  total_gpu_count: z.number().int().min(0).nullish(),
});
export type CreateMessage = z.infer<typeof CreateMessage>;

/** An id, or a prefix of one. */
const ReservationRef = z
  .string()
  .min(4)
  .max(36)
  .regex(/^[0-9a-fA-F-]+$/, 'must be a reservation id or the beginning of one')
  .transform((id) => id.toLowerCase());

export const EventMessage = {
  cancel: z.looseObject({ ...common, reservation_id: ReservationRef }),
  extend: z.looseObject({ ...common, reservation_id: ReservationRef, extension_hours: z.number().positive().max(720) }),
  add_user: z.looseObject({ ...common, reservation_id: ReservationRef, github_username: GithubName }),
  remove_user: z.looseObject({ ...common, reservation_id: ReservationRef, github_username: GithubName }),
  enable_jupyter: z.looseObject({ ...common, reservation_id: ReservationRef }),
  disable_jupyter: z.looseObject({ ...common, reservation_id: ReservationRef }),
} as const;
export type EventAction = keyof typeof EventMessage;

export const SizeGb = z.number().int().min(1).max(16_384);
/** Ids of snapshots are ours; nobody chooses them. */
export const SnapshotId = z.string().min(1).max(200);
export const DiskMessages = {
  create_disk: z.looseObject({ ...common, user_id: UserName, disk_name: DiskName, size_gb: SizeGb.nullish() }),
  delete_disk: z.looseObject({
    ...common,
    user_id: UserName,
    disk_name: DiskName,
    delete_date: z.union([z.iso.date(), z.iso.datetime({ offset: true })]).nullish(),
  }),
  undelete_disk: z.looseObject({ ...common, user_id: UserName, disk_name: DiskName }),
  clone_disk: z.looseObject({ ...common, user_id: UserName, source_disk: DiskName, target_disk: DiskName }),
  rename_disk: z.looseObject({ ...common, user_id: UserName, disk_name: DiskName, new_name: DiskName }),
  restore_disk: z.looseObject({ ...common, user_id: UserName, disk_name: DiskName, snapshot_id: SnapshotId }),
} as const;
export type DiskAction = keyof typeof DiskMessages;

export type Action = { does: 'create' } | { does: 'event'; action: EventAction } | { does: 'disk'; action: DiskAction };

/** Names that producers use, and what they mean. Nothing else is an action: there is no default. */
const ACTIONS: Record<string, Action> = {
  create_reservation: { does: 'create' },
  reservation: { does: 'create' },
  cancel: { does: 'event', action: 'cancel' },
  cancellation: { does: 'event', action: 'cancel' },
  extend: { does: 'event', action: 'extend' },
  extend_reservation: { does: 'event', action: 'extend' },
  add_user: { does: 'event', action: 'add_user' },
  remove_user: { does: 'event', action: 'remove_user' },
  enable_jupyter: { does: 'event', action: 'enable_jupyter' },
  disable_jupyter: { does: 'event', action: 'disable_jupyter' },
  create_disk: { does: 'disk', action: 'create_disk' },
  delete_disk: { does: 'disk', action: 'delete_disk' },
  undelete_disk: { does: 'disk', action: 'undelete_disk' },
  clone_disk: { does: 'disk', action: 'clone_disk' },
  rename_disk: { does: 'disk', action: 'rename_disk' },
  restore_disk: { does: 'disk', action: 'restore_disk' },
};

/**
 * What a message asks for.
 * @throws Problem naming the field `action` (or `type`, in the old style).
 */
export function actionOf(body: unknown): { action: Action; body: Record<string, unknown> } {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) {
    throw new Problem('GPU_MESSAGE_NOT_OBJECT', 'A message must be a JSON object', { field: '(body)' });
  }
  const record = body as Record<string, unknown>;
  const field = record['action'] !== undefined ? 'action' : 'type';
  const name = record[field];
  if (name === undefined || name === null || name === '') {
    throw new Problem('GPU_ACTION_MISSING', 'The field action is missing', {
      field: 'action',
      details: { allowed: Object.keys(ACTIONS) },
    });
  }
  const action = typeof name === 'string' && Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
  if (action === undefined) {
    // Only a text is repeated: anything else may hold a whole message, secrets included.
    const what =
      typeof name === 'string' ? `action ${JSON.stringify(name.slice(0, 40))}` : `field ${field} is no text: this action`;
    throw new Problem('GPU_ACTION_UNKNOWN', `The ${what} is unknown`, {
      field,
      details: { allowed: Object.keys(ACTIONS) },
    });
  }
  return { action, body: record };
}

/** Names of the library's own events come in at no door, whatever else the message says. */
export function refuseReserved(body: unknown): void {
  for (const field of ['type', 'action']) {
    const value = (body as Record<string, unknown> | null)?.[field];
    if (typeof value === 'string' && value.startsWith('xstate.')) {
      throw new Problem('GPU_ACTION_UNKNOWN', `The ${field} ${value.slice(0, 80)} is reserved`, { field });
    }
  }
}

/**
 * Check a body against a shape.
 * @throws Problem naming the first field at fault, in words, without its value (it may be a secret).
 */
export function check<S extends z.ZodType>(shape: S, body: unknown): z.output<S> {
  // Postgres stores neither U+0000 in text nor half a surrogate pair; better to say so here than to fail there.
  const found = findUnstorable(body, []);
  if (found !== null) {
    const [field, what] = found;
    throw new Problem('GPU_FIELD_INVALID', `The field ${field} contains ${what}`, { field });
  }
  const result = shape.safeParse(body);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const field = issue.path.join('.') || '(body)';
  const missing = issue.code === 'invalid_type' && valueAt(body, issue.path) === undefined;
  throw new Problem(
    missing ? 'GPU_FIELD_MISSING' : 'GPU_FIELD_INVALID',
    missing ? `The field ${field} is missing` : `The field ${field}: ${issue.message}`,
    {
      field,
    },
  );
}

function valueAt(body: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | null | undefined)?.[key], body);
}

/** Deeper than this nobody means it; and what walks a value later must not run out of stack. */
const DEEPEST = 32;

/** Where there is text that cannot be stored, and why; null if there is none. */
function findUnstorable(value: unknown, path: string[]): [field: string, what: string] | null {
  if (path.length > DEEPEST) {
    const field = path[0]!;
    throw new Problem('GPU_FIELD_INVALID', `The field ${field} is nested more than ${DEEPEST} levels deep`, { field });
  }
  if (typeof value === 'string') return wrongIn(value, path.join('.') || '(body)');
  if (value === null || typeof value !== 'object') return null;
  for (const [key, inner] of Object.entries(value)) {
    const found = wrongIn(key, [...path, '(key)'].join('.')) ?? findUnstorable(inner, [...path, key]);
    if (found !== null) return found;
  }
  return null;
}

function wrongIn(text: string, field: string): [field: string, what: string] | null {
  if (text.includes('\0')) return [field, 'a NUL character'];
  return text.isWellFormed() ? null : [field, 'half of a character (an unpaired surrogate)'];
}
