/** Failures of AWS calls with their meaning kept: a code is what AWS said, no answer is "unknown", never "missing". */
import { TerminalError } from '../../../actors/errors.ts';

/**
 * throttled: AWS did nothing, and will later. missing: AWS says that the object is not there. denied: a right is missing, which an operator can
 * mend. busy: the object is in another state now. full: a quota or a lack of room. refused: will never be accepted. unknown: it may have been
 * done or not.
 */
export type AwsFailure = 'throttled' | 'missing' | 'denied' | 'busy' | 'full' | 'refused' | 'unknown';

/** A call that AWS refused, or that never came to an answer (`status` null). */
export class AwsError extends Error {
  override readonly name = 'AwsError';
  readonly failure: AwsFailure;
  readonly code: string;
  readonly status: number | null;
  /** What AWS said, without the request that it is about. */
  readonly detail: string;

  constructor(
    doing: string,
    failure: AwsFailure,
    { code, status, detail }: { code: string; status: number | null; detail: string },
  ) {
    super(`${doing}: ${status === null ? 'no answer' : status} ${code}${detail === '' ? '' : ` (${detail})`}`);
    this.failure = failure;
    this.code = code;
    this.status = status;
    this.detail = detail;
  }

  /** Whether it is certain that nothing was done. */
  get undone(): boolean {
    return this.failure !== 'unknown';
  }
}

const THROTTLED =
  /throttl|^RequestLimitExceeded$|^TooManyRequests|^SlowDown$|^PriorRequestNotComplete$|^BandwidthLimitExceeded$|^LimitExceededException$|^SnapshotCreationPerVolumeRateExceeded$/i;
const MISSING = /NotFound(Exception|Fault)?$|^NoSuch(Key|Bucket|HostedZone)$/;
const DENIED =
  /^(UnauthorizedOperation|AccessDenied(Exception)?|AuthFailure|UnrecognizedClientException|InvalidClientTokenId|ExpiredToken(Exception)?|OptInRequired|SignatureDoesNotMatch|CredentialsProviderError|InvalidSignatureException|RequestExpired|Blocked|PendingVerification)$/;
const BUSY =
  /^(VolumeInUse|IncorrectState|IncorrectInstanceState|IncorrectModificationState|ResourceInUse(Exception)?|OperationAborted|ConflictException|InvalidVolume\.ZoneMismatch|VolumeModificationRateExceeded|FileSystemInUse|IncorrectFileSystemLifeCycleState|ConcurrentSnapshotLimitExceeded)$/;
const FULL = /LimitExceeded|QuotaExceeded|^InsufficientVolumeCapacity$|^InsufficientThroughputCapacity$|^ServiceQuota/;

/** The error of a call as an AwsError; the request stays out of it, for it may hold secrets. */
export function describeAws(doing: string, error: unknown): AwsError {
  if (error instanceof AwsError) return error;
  const { name, Code, message, $metadata, $response } = error as {
    name?: string;
    Code?: string;
    message?: string;
    $metadata?: { httpStatusCode?: number };
    $response?: { statusCode?: number };
  };
  const status = $metadata?.httpStatusCode ?? $response?.statusCode ?? null;
  const code = (name === 'Error' || name === undefined ? Code : name) ?? codeOf(error);
  const detail = (message ?? '').split('\n', 1)[0]!.slice(0, 300);
  return new AwsError(doing, failureOf(code, status), { code: status === null ? codeOf(error, code) : code, status, detail });
}

function failureOf(code: string, status: number | null): AwsFailure {
  if (DENIED.test(code)) return 'denied';
  if (status === null || status < 300) return 'unknown';
  if (THROTTLED.test(code) || status === 429) return 'throttled';
  if (status >= 500) return 'unknown';
  if (MISSING.test(code)) return 'missing';
  if (status === 404) return 'missing';
  if (status === 401 || status === 403) return 'denied';
  if (BUSY.test(code) || status === 409) return 'busy';
  if (FULL.test(code)) return 'full';
  return 'refused';
}

/** The code of the innermost cause that has one. */
function codeOf(error: unknown, known = 'ConnectionError'): string {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as { code?: unknown };
    if (typeof code === 'string') return code;
    if (cause.name === 'TimeoutError' || cause.name === 'AbortError') return 'Timeout';
  }
  return known === 'Error' ? 'ConnectionError' : known;
}

/** Whether AWS says that this very object is not there: its own code, or nothing. */
export function isMissing(error: unknown, code: string): boolean {
  return error instanceof AwsError && error.failure === 'missing' && error.code === code;
}

/**
 * The boundary of a port: what will never be accepted becomes a TerminalError with AWS's words, all else passes as it is.
 * @throws TerminalError, AwsError or what `work` throws
 */
export async function asAwsPort<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AwsError && error.failure === 'refused') {
      throw new TerminalError(`AWS refuses this: ${error.detail || error.code}`, { cause: error });
    }
    throw error;
  }
}
