/** Failures of the Kubernetes API with their meaning kept: a status is what the server said, no status is "unknown", never "missing". */
import { ApiException } from '@kubernetes/client-node';
import { TerminalError } from '../../../actors/errors.ts';

/** A call that the API server refused, or that never came to an answer (`status` null). */
export class KubernetesError extends Error {
  override readonly name = 'KubernetesError';
  /** HTTP status, or null if no answer came (timeout, refused or cut connection). */
  readonly status: number | null;
  /** The machine-readable reason of the Status (NotFound, AlreadyExists, ...), or the code of the socket error. */
  readonly reason: string;
  /** What the server said, without the request that it is about. */
  readonly detail: string;
  /** Milliseconds the server asked us to wait, if it did (429, 503). */
  readonly retryAfter: number | null;

  constructor(doing: string, status: number | null, reason: string, detail: string, retryAfter: number | null = null) {
    super(`${doing}: ${status === null ? 'no answer' : status} ${reason}${detail === '' ? '' : ` (${detail})`}`);
    this.status = status;
    this.reason = reason;
    this.detail = detail;
    this.retryAfter = retryAfter;
  }
}

interface StatusBody {
  reason?: string;
  message?: string;
  details?: { retryAfterSeconds?: number };
}

/** The error of a call as a KubernetesError; headers and bodies of requests stay out of it, for they may hold secrets. */
export function describe(doing: string, error: unknown): KubernetesError {
  if (error instanceof KubernetesError) return error;
  if (error instanceof ApiException) {
    const status = statusBody(error.body);
    const seconds = status.details?.retryAfterSeconds ?? Number(error.headers['retry-after']);
    const wait = Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : null;
    // client-node keeps no body of a 401. A 404 without a Status stays nameless: then the API itself is missing, not an object.
    const reason = status.reason ?? (error.code === 401 ? 'Unauthorized' : 'HttpError');
    return new KubernetesError(doing, error.code, reason, firstLine(status.message ?? ''), wait);
  }
  const { statusCode } = error as { statusCode?: number };
  if (typeof statusCode === 'number') return new KubernetesError(doing, statusCode, 'HttpError', messageOf(error));
  return new KubernetesError(doing, null, codeOf(error), messageOf(error));
}

function statusBody(body: unknown): StatusBody {
  if (typeof body === 'object' && body !== null) return body as StatusBody;
  if (typeof body !== 'string') return {};
  try {
    return JSON.parse(body) as StatusBody;
  } catch {
    return { message: body.slice(0, 300).trim() };
  }
}

/** What follows the first line of a refusal is a dump of both objects. */
const firstLine = (text: string): string => text.split('\n', 1)[0] ?? '';

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : 'unknown failure';
}

/** The code of the innermost cause: undici wraps a refused connection in a TypeError. */
function codeOf(error: unknown): string {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as { code?: unknown };
    if (typeof code === 'string') return code;
    if (cause.name === 'TimeoutError' || cause.name === 'AbortError') return 'Timeout';
  }
  return 'ConnectionError';
}

/** Run one call; whatever goes wrong is thrown as a KubernetesError that says what we were doing. */
export async function attempt<T>(doing: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw describe(doing, error);
  }
}

/** The same, with null for an object that the API server says is not there. Only its 404 counts. */
export async function attemptOrNull<T>(doing: string, call: () => Promise<T>): Promise<T | null> {
  try {
    return await call();
  } catch (error) {
    const known = describe(doing, error);
    if (known.status === 404 && known.reason === 'NotFound') return null;
    throw known;
  }
}

export function hasStatus(error: unknown, status: number): error is KubernetesError {
  return error instanceof KubernetesError && error.status === status;
}

/** Reason of an exec that did not come about. */
export const EXEC_FAILED = 'ExecFailed';

/** Refusals of 403 that pass by themselves or by an operator's hand: a quota, missing rights of ours, a namespace that ends. */
const PASSING_REFUSALS =
  /exceeded quota|cannot (create|get|list|watch|update|patch|delete|deletecollection) resource|is being terminated|not yet ready to handle request/i;

/** Whether the cluster will never accept this call, however often it is repeated. */
export function isHopeless(error: KubernetesError): boolean {
  // A container that is not up yet, or up again soon after it ran out of memory, refuses with 400.
  if (error.reason === EXEC_FAILED) return false;
  if (error.status === 403) return !PASSING_REFUSALS.test(error.detail);
  return error.status === 400 || error.status === 413 || error.status === 422;
}

/**
 * The boundary of a port: hopeless refusals become TerminalErrors with the server's words, all else passes as it is.
 * @throws TerminalError, KubernetesError or what `work` throws
 */
export async function asPort<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof KubernetesError && isHopeless(error)) {
      throw new TerminalError(`The cluster refuses this: ${error.detail || error.reason}`, { cause: error });
    }
    throw error;
  }
}
