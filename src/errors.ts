/** Errors as people and programs see them: one table of codes, told as problem documents (RFC 9457). */
import { Problem, PROBLEMS, type ProblemCode } from '../actors/problem.ts';
import { isRetryableDatabaseError } from '../persistence/database.ts';

export { Problem, PROBLEMS, type ProblemCode };

/** What to do about each error: a sentence for the one who meets it. */
export const ADVICE: Record<ProblemCode, string> = {
  GPU_MESSAGE_NOT_OBJECT: 'Send one JSON object.',
  GPU_ACTION_MISSING: 'Name the action in the field `action`; the allowed names are in the details.',
  GPU_ACTION_UNKNOWN: 'Use one of the actions in the details.',
  GPU_FIELD_INVALID: 'Correct the field that is named.',
  GPU_FIELD_MISSING: 'Add the field that is named.',
  GPU_TYPE_UNKNOWN: 'Choose one of the types in the details; `gpu-dev avail` shows what is free.',
  GPU_COUNT_INVALID: 'Choose one of the counts in the details.',
  GPU_DURATION_INVALID: 'Choose a duration within the limits in the details; a running server can be extended.',
  GPU_BUILD_CONTEXT_INVALID: 'Send base64 of a tar.gz with a Dockerfile at its top; `gpu-dev reserve --dockerfile` packs one.',
  GPU_BUILD_TOKEN_INVALID: 'Pods of builds are given one; nobody else needs it.',
  GPU_BUILD_TOKEN_SPENT: 'Ask for the image again: the next attempt has a token of its own.',
  GPU_ID_TAKEN: 'Leave out reservation_id, or choose a new UUID.',
  GPU_NAME_TAKEN: 'Choose another name.',
  GPU_RESERVATION_UNKNOWN: 'Check the id; `gpu-dev list` shows your reservations.',
  GPU_RESERVATION_AMBIGUOUS: 'Give more of the id; the candidates are in the details.',
  GPU_NOT_OWNER: 'Ask its owner.',
  GPU_EVENT_IGNORED: 'See its state, and what it takes now, with `gpu-dev show`; both are in the details.',
  GPU_EXTENSION_REFUSED: 'Ask for fewer hours, or save your work: the server keeps running until its present end.',
  GPU_DISK_UNKNOWN: 'Check the name; `GET /v1/disks` lists your disks.',
  GPU_DISK_EXISTS: 'Choose another name, or use the disk that exists.',
  GPU_DISK_DELETED: 'Undelete it, or choose another disk.',
  GPU_DISK_GONE: 'Undelete it first.',
  GPU_DISK_ELSEWHERE:
    'The disk is kept by one node or zone, and no node of this type is there: ask for a type that is, or name another disk, or none.',
  GPU_DISK_IN_USE: 'Wait until the reservation in the details has ended, or cancel it.',
  GPU_DISK_OPERATION_FAILED: 'The detail says why; the disk is as it was.',
  GPU_SNAPSHOT_UNKNOWN: 'Choose one of `GET /v1/disks/{name}/snapshots`.',
  GPU_CONTENTS_UNAVAILABLE: 'Try again; the store where it is kept does not answer.',
  GPU_CONTENTS_UNKNOWN: 'Look again after the next session, or use the disk and look yourself.',
  GPU_IDEMPOTENCY_CONFLICT: 'Take a new idempotency key for a new request.',
  GPU_TYPE_MAINTENANCE: 'Choose another type, or wait until the time in the details.',
  GPU_NODE_UNKNOWN: 'Check the name; `GET /v1/admin/nodes` lists the nodes.',
  GPU_CONFIRMATION_NEEDED: 'Read what would be lost in the details, then repeat the id in the field `confirm`.',
  GPU_NOTHING_TO_RELEASE: 'Cancel it instead.',
  GPU_DEAD_LETTER_UNKNOWN: 'Check the id; `GET /v1/admin/dead-letters` lists them.',
  GPU_DEAD_LETTER_RESOLVED: 'Nothing is left to do; the details say what was done.',
  GPU_REPLAY_REFUSED: 'The detail says why; drop it, or correct what it names.',
  GPU_EFFECT_UNKNOWN: 'Check the id: `actor:number:index`, as the history shows it.',
  GPU_ACTOR_UNKNOWN: 'Check the address: `kind/id`.',
  GPU_ACTOR_NOT_REVIVED: 'Start the version that knows its snapshot, or look at the row; its mail waits.',
  GPU_MACHINE_UNKNOWN: 'Choose one of the names in the details.',
  GPU_ACTOR_UNBORN: 'Create it first.',
  GPU_MACHINE_FAILED: 'This is our fault: the message stands in the dead letters for an operator.',
  GPU_EVENT_INVALID: 'Correct the event; its shape is in the API description.',
  GPU_EFFECT_INVALID: 'This is our fault: the message stands in the dead letters for an operator.',
  GPU_EFFECT_DEADLY: 'This is our fault: the effect stands in the dead letters for an operator.',
  GPU_EFFECT_FAILED: 'The reason names what failed; an operator can look at the dead letters.',
  GPU_MESSAGE_FAILED: 'The message stands in the dead letters, where an operator can replay it.',
  GPU_MESSAGE_POISONED: 'The message stands in the dead letters, where an operator can replay it.',
  GPU_DATABASE_BUSY: 'Try again in a moment, with the same idempotency key.',
  GPU_OPERATION_UNKNOWN: 'Check the id of the operation.',
  GPU_NOT_FOUND: 'See `GET /` for what is here.',
  GPU_REQUEST_INVALID: 'Send an HTTP request whose path and headers are well-formed.',
  GPU_REQUEST_TIMEOUT: 'Send the request in one go.',
  GPU_PATH_TOO_LONG: 'Check the id or the name in the path.',
  GPU_HEADERS_TOO_LARGE: 'Send less in the headers; cookies are not needed here.',
  GPU_BODY_INVALID: 'Send valid JSON.',
  GPU_BODY_TOO_LARGE: 'Send at most 5 MB.',
  GPU_MEDIA_TYPE_UNSUPPORTED: 'Send JSON with `content-type: application/json`.',
  GPU_QUOTA_EXCEEDED:
    'End a reservation or wait until one has ended; `details` says what is counted. An operator can raise the quota.',
  GPU_RATE_LIMITED: 'Wait for the seconds in `retry-after`. Use a stream instead of asking again and again.',
  GPU_STREAMS_TOO_MANY: 'Close one that you no longer read; one stream of all your reservations serves them all.',
  GPU_KEY_MISSING: 'Log in with `gpu-dev login` (`--local` on a laptop), and send the key: `Authorization: Bearer <key>`.',
  GPU_KEY_INVALID: 'Log in again: the key is unknown here, or was revoked.',
  GPU_KEY_EXPIRED: 'Log in again, or rotate keys before they expire. Reservations do not end with a key.',
  GPU_KEYS_TOO_MANY: 'Revoke one that you no longer need, wait until one ends, or rotate with {"revoke": true}.',
  GPU_KEY_TOO_OLD: 'Log in again.',
  GPU_KEY_UNKNOWN: 'Check the id; `gpu-dev keys list` shows your keys.',
  GPU_USER_DISABLED: 'Ask an admin: a login does not change it.',
  GPU_USER_UNKNOWN: 'Check the name: users exist from their first login on.',
  GPU_USER_MISMATCH: 'Leave the user out; only an admin may act for others.',
  GPU_SCOPE_MISSING: 'Use a key with the scope that is named in the details.',
  GPU_ADMIN_ONLY: 'Ask an admin, or ask for your own things only.',
  GPU_ROLE_INSUFFICIENT: 'Ask its owner for the role that is named in the details.',
  GPU_LOGIN_OFF: 'Use another; the reason says which setting an operator would change.',
  GPU_LOGIN_REFUSED: 'Make a new request with credentials that are valid now; the reason says what is wrong.',
  GPU_LOGIN_REPLAYED: 'Sign a new request: each logs in once.',
  GPU_LOGIN_UNSAFE: 'Send a signed request instead (`gpu-dev login` does), or use TLS.',
  GPU_ACCOUNT_NOT_ALLOWED: 'Use a profile of an account that is allowed, or ask an operator to allow it.',
  GPU_ROLE_NOT_ALLOWED: 'Use the role that is named in the reason.',
  GPU_GITHUB_TAKEN: 'Use your own; if it is yours, ask an admin to have it forgotten.',
  GPU_GITHUB_UNPROVEN: 'Sign the message again with a key that GitHub shows for you: `gpu-dev github <name>` does both.',
  GPU_GITHUB_OFF: 'Nothing: the service runs where GitHub is not asked, as on a laptop. A name still lets in its SSH keys.',
  GPU_GITHUB_UNAVAILABLE: 'Try again in a moment.',
  GPU_STS_UNAVAILABLE: 'Try again in a moment.',
  GPU_TIMEOUT: 'Try again, with the same idempotency key.',
  GPU_INTERNAL: 'Try again; if it stays, tell an operator the request id.',
};

/** An error as it goes over the wire. */
export interface ProblemDocument {
  /** Page about this code. */
  type: string;
  title: string;
  status: number;
  code: ProblemCode;
  detail: string;
  /** The field at fault, dotted; null if none is. */
  field: string | null;
  details: Record<string, unknown>;
  /** Path of the request. */
  instance: string;
  request_id: string;
}

/** The document of a problem. */
export function documentOf(problem: Problem, instance: string, requestId: string): ProblemDocument {
  const { title, status } = PROBLEMS[problem.code];
  return {
    type: `urn:gpu-dev:problem:${problem.code}`,
    title,
    status,
    code: problem.code,
    detail: problem.message,
    field: problem.field,
    details: problem.details,
    instance,
    request_id: requestId,
  };
}

// What the HTTP library refuses before a handler sees it.
const LIBRARY: Record<string, { code: ProblemCode; detail: string }> = {
  FST_ERR_CTP_BODY_TOO_LARGE: { code: 'GPU_BODY_TOO_LARGE', detail: 'The body is larger than 5 MB' },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: { code: 'GPU_MEDIA_TYPE_UNSUPPORTED', detail: 'The content type must be application/json' },
  FST_ERR_CTP_EMPTY_JSON_BODY: { code: 'GPU_BODY_INVALID', detail: 'The body is empty' },
  FST_ERR_CTP_INVALID_JSON_BODY: { code: 'GPU_BODY_INVALID', detail: 'The body is not valid JSON' },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: { code: 'GPU_BODY_INVALID', detail: 'The body is not as long as it says' },
  FST_ERR_MAX_PARAM_LENGTH: { code: 'GPU_PATH_TOO_LONG', detail: 'A part of the path is longer than 100 characters' },
  FST_ERR_BAD_URL: { code: 'GPU_REQUEST_INVALID', detail: 'The path is not well-formed' },
};

/**
 * Any error as a problem. What is not meant for senders becomes GPU_INTERNAL without a word of its own: it may hold anything.
 */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (isRetryableDatabaseError(error)) return new Problem('GPU_DATABASE_BUSY', 'The database does not answer right now');
  const { code, statusCode } = (error ?? {}) as { code?: unknown; statusCode?: unknown };
  const known = typeof code === 'string' && Object.hasOwn(LIBRARY, code) ? LIBRARY[code] : undefined;
  if (known !== undefined) return new Problem(known.code, known.detail);
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return new Problem('GPU_REQUEST_INVALID', 'The request cannot be read');
  }
  return new Problem('GPU_INTERNAL', 'Something went wrong here');
}

/** The page about all errors, generated from the table. */
export function errorsPage(): string {
  const rows = (Object.keys(PROBLEMS) as ProblemCode[])
    .sort()
    .map((code) => `| \`${code}\` | ${PROBLEMS[code].status} | ${PROBLEMS[code].title} | ${ADVICE[code]} |`);
  return [
    '# Errors',
    '',
    'Every error over HTTP is a problem document (RFC 9457, `application/problem+json`). Programs decide by `code`, which never changes its',
    'meaning; `detail` is a sentence for people, `field` names the field at fault, and `details` holds more for programs: allowed values,',
    'candidates, the state that was met. The same codes stand in the dead letters of the queues.',
    '',
    '```json',
    JSON.stringify(
      documentOf(
        new Problem('GPU_COUNT_INVALID', '3 GPUs of h100 cannot be reserved on one node; allowed are 1, 2, 4, 8', {
          field: 'gpu_count',
          details: { allowed: [1, 2, 4, 8] },
        }),
        '/v1/reservations',
        'req-1',
      ),
      null,
      2,
    ),
    '```',
    '',
    '| code | status | meaning | what to do |',
    '| --- | --- | --- | --- |',
    ...rows,
    '',
    'This page is generated: `node src/http/write-errors-page.ts`.',
    '',
  ].join('\n');
}
