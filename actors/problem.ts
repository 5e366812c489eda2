/** What a sender did wrong, with a stable code and the field at fault. One table: the doors and their documentation read it. */

export const PROBLEMS = {
  GPU_MESSAGE_NOT_OBJECT: { status: 400, title: 'The message is not a JSON object' },
  GPU_ACTION_MISSING: { status: 400, title: 'The message names no action' },
  GPU_ACTION_UNKNOWN: { status: 400, title: 'The action is unknown' },
  GPU_FIELD_INVALID: { status: 400, title: 'A field has a value that is not allowed' },
  GPU_FIELD_MISSING: { status: 400, title: 'A required field is missing' },
  GPU_TYPE_UNKNOWN: { status: 422, title: 'The GPU type is unknown' },
  GPU_COUNT_INVALID: { status: 422, title: 'This number of GPUs cannot be reserved' },
  GPU_DURATION_INVALID: { status: 422, title: 'This duration cannot be reserved' },
  GPU_BUILD_CONTEXT_INVALID: { status: 422, title: 'The build context cannot be read' },
  GPU_BUILD_TOKEN_INVALID: { status: 401, title: 'No token opens this build context' },
  GPU_BUILD_TOKEN_SPENT: { status: 410, title: 'The token was used, or its time is over' },
  GPU_ID_TAKEN: { status: 409, title: 'The reservation id belongs to another user' },
  GPU_NAME_TAKEN: { status: 409, title: 'The name is in use' },
  GPU_RESERVATION_UNKNOWN: { status: 404, title: 'There is no such reservation' },
  GPU_RESERVATION_AMBIGUOUS: { status: 409, title: 'More than one reservation matches' },
  GPU_NOT_OWNER: { status: 403, title: 'The reservation belongs to another user' },
  GPU_EVENT_IGNORED: { status: 409, title: 'The reservation does not accept this now' },
  GPU_EXTENSION_REFUSED: { status: 409, title: 'The extension was refused' },
  GPU_DISK_UNKNOWN: { status: 404, title: 'There is no such disk' },
  GPU_DISK_EXISTS: { status: 409, title: 'A disk of this name exists' },
  GPU_DISK_DELETED: { status: 409, title: 'The disk is deleted' },
  GPU_DISK_GONE: { status: 410, title: 'The disk is deleted' },
  GPU_DISK_ELSEWHERE: { status: 409, title: 'No node of this type can use the disk' },
  GPU_DISK_IN_USE: { status: 409, title: 'The disk is in use' },
  GPU_DISK_OPERATION_FAILED: { status: 409, title: 'The operation on the disk failed' },
  GPU_SNAPSHOT_UNKNOWN: { status: 404, title: 'The disk has no such snapshot' },
  GPU_CONTENTS_UNAVAILABLE: { status: 503, title: 'What is on the disk cannot be read now' },
  GPU_CONTENTS_UNKNOWN: { status: 404, title: 'Nobody has listed what is on the disk' },
  GPU_IDEMPOTENCY_CONFLICT: { status: 409, title: 'The key belongs to another request' },
  GPU_TYPE_MAINTENANCE: { status: 409, title: 'The GPU type is under maintenance' },
  GPU_NODE_UNKNOWN: { status: 404, title: 'There is no such node' },
  GPU_CONFIRMATION_NEEDED: { status: 409, title: 'This must be confirmed' },
  GPU_NOTHING_TO_RELEASE: { status: 409, title: 'The reservation holds no GPU' },
  GPU_DEAD_LETTER_UNKNOWN: { status: 404, title: 'There is no such dead letter' },
  GPU_DEAD_LETTER_RESOLVED: { status: 409, title: 'The dead letter was dealt with' },
  GPU_REPLAY_REFUSED: { status: 409, title: 'This cannot be replayed' },
  GPU_EFFECT_UNKNOWN: { status: 404, title: 'There is no such effect' },
  GPU_ACTOR_UNKNOWN: { status: 404, title: 'There is no such actor' },
  GPU_ACTOR_NOT_REVIVED: { status: 409, title: 'The actor cannot be revived' },
  GPU_MACHINE_UNKNOWN: { status: 404, title: 'There is no such machine' },
  GPU_ACTOR_UNBORN: { status: 404, title: 'The actor does not exist yet' },
  GPU_MACHINE_FAILED: { status: 500, title: 'The machine failed on this event' },
  GPU_EVENT_INVALID: { status: 400, title: 'The event does not fit its kind' },
  GPU_EFFECT_INVALID: { status: 500, title: 'The machine asked for an effect that does not fit its kind' },
  GPU_EFFECT_DEADLY: { status: 500, title: 'Whoever ran an effect died of it' },
  GPU_EFFECT_FAILED: { status: 500, title: 'An effect failed for good' },
  GPU_MESSAGE_FAILED: { status: 500, title: 'The message could not be processed' },
  GPU_MESSAGE_POISONED: { status: 500, title: 'The message failed too often' },
  GPU_DATABASE_BUSY: { status: 503, title: 'The database is busy' },
  GPU_OPERATION_UNKNOWN: { status: 404, title: 'There is no such operation' },
  GPU_NOT_FOUND: { status: 404, title: 'There is nothing here' },
  GPU_REQUEST_INVALID: { status: 400, title: 'The request cannot be read' },
  GPU_REQUEST_TIMEOUT: { status: 408, title: 'The request did not arrive in time' },
  GPU_PATH_TOO_LONG: { status: 414, title: 'The path is too long' },
  GPU_HEADERS_TOO_LARGE: { status: 431, title: 'The headers are too large' },
  GPU_BODY_INVALID: { status: 400, title: 'The body cannot be read' },
  GPU_BODY_TOO_LARGE: { status: 413, title: 'The body is too large' },
  GPU_MEDIA_TYPE_UNSUPPORTED: { status: 415, title: 'The body is not JSON' },
  GPU_QUOTA_EXCEEDED: { status: 429, title: 'The quota does not suffice' },
  GPU_RATE_LIMITED: { status: 429, title: 'Too many requests in a short time' },
  GPU_STREAMS_TOO_MANY: { status: 429, title: 'Too many streams are open' },
  GPU_KEY_MISSING: { status: 401, title: 'No API key was sent' },
  GPU_KEY_INVALID: { status: 401, title: 'The API key is not valid' },
  GPU_KEY_EXPIRED: { status: 401, title: 'The API key has expired' },
  GPU_KEYS_TOO_MANY: { status: 409, title: 'The user has as many keys as they may' },
  GPU_KEY_TOO_OLD: { status: 403, title: 'Rotation cannot take the place of a login for ever' },
  GPU_KEY_UNKNOWN: { status: 404, title: 'There is no such key' },
  GPU_USER_DISABLED: { status: 403, title: 'The user is disabled' },
  GPU_USER_UNKNOWN: { status: 404, title: 'There is no such user' },
  GPU_USER_MISMATCH: { status: 403, title: 'The request names another user than its key' },
  GPU_SCOPE_MISSING: { status: 403, title: 'The key may not be used for this' },
  GPU_ADMIN_ONLY: { status: 403, title: 'Only an admin may do this' },
  GPU_ROLE_INSUFFICIENT: { status: 403, title: 'Your role in this reservation does not suffice' },
  GPU_LOGIN_OFF: { status: 403, title: 'This way of logging in is switched off' },
  GPU_LOGIN_REFUSED: { status: 401, title: 'The login was refused' },
  GPU_LOGIN_REPLAYED: { status: 401, title: 'This signed request was used before' },
  GPU_LOGIN_UNSAFE: { status: 403, title: 'Secrets are not accepted over this connection' },
  GPU_ACCOUNT_NOT_ALLOWED: { status: 403, title: 'Users of this AWS account may not log in' },
  GPU_ROLE_NOT_ALLOWED: { status: 403, title: 'This AWS role may not log in' },
  GPU_GITHUB_TAKEN: { status: 409, title: "The GitHub name is somebody else's here" },
  GPU_GITHUB_UNPROVEN: { status: 422, title: 'The GitHub name is not proven' },
  GPU_GITHUB_OFF: { status: 409, title: 'Names of GitHub cannot be proven here' },
  GPU_GITHUB_UNAVAILABLE: { status: 503, title: 'GitHub cannot be asked now' },
  GPU_STS_UNAVAILABLE: { status: 503, title: 'AWS does not answer' },
  GPU_TIMEOUT: { status: 503, title: 'The answer took too long' },
  GPU_INTERNAL: { status: 500, title: 'Something went wrong here' },
} as const satisfies Record<string, { status: number; title: string }>;
export type ProblemCode = keyof typeof PROBLEMS;

/** Thrown at a door. The message is for the sender and holds no secrets. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ProblemCode;
  readonly field: string | null;
  /** More for machines: allowed values, candidates, the state that was met. */
  readonly details: Record<string, unknown>;

  constructor(code: ProblemCode, message: string, options: { field?: string; details?: Record<string, unknown> } = {}) {
    super(message);
    this.code = code;
    this.field = options.field ?? null;
    this.details = options.details ?? {};
  }

  get status(): number {
    return PROBLEMS[this.code].status;
  }
}
