/** A value that must not be seen: it prints as `[secret]` everywhere, and is opened by name only. */
import { inspect } from 'node:util';

const MASK = '[secret]';

export class Secret<T> {
  readonly #value: T;
  constructor(value: T) {
    this.#value = value;
  }
  /** The value itself: for the one place that needs it, never for a log or an error. */
  reveal(): T {
    return this.#value;
  }
  toString(): string {
    return MASK;
  }
  toJSON(): string {
    return MASK;
  }
  [inspect.custom](): string {
    return MASK;
  }
}

/** Names whose values may be secret. Rather one too many: what is masked can be asked for, what is shown cannot be taken back. */
const SECRET_KEYS = /env|cred|pass|key|auth|secret|token/i;
/** Keys of this API, wherever they stand. */
const KEYS_OF_OURS = /gpudev_[A-Za-z0-9_-]{43}/g;
/** Shorter values than this are words of every text. */
const SHORTEST_SECRET = 6;

/** A text without keys of this API, and without these values, as they are or in base64. */
export function withoutSecrets(text: string, values: readonly string[] = []): string {
  return values
    .filter((value) => value.length >= SHORTEST_SECRET)
    .flatMap((value) => [value, Buffer.from(value).toString('base64')])
    .sort((a, b) => b.length - a.length)
    .reduce((clean, value) => clean.replaceAll(value, MASK), text)
    .replace(KEYS_OF_OURS, MASK);
}

const DESCRIBED = /^\[string of \d+ characters\]$/;

/**
 * A copy of JSON without secrets, for dead letters and for people: under a key that may name a secret, at any depth, every value is masked
 * and names stay. A text that stands alone or is JSON itself may hold anything: of it only type and length are told.
 */
export function redact(value: unknown): unknown {
  if (typeof value === 'string') return described(value);
  if (typeof value === 'number') return '[number]';
  if (Array.isArray(value)) return value.map(redact);
  return clean(value);
}

function clean(value: unknown): unknown {
  if (typeof value === 'string') return isJson(value) ? described(value) : value.replace(KEYS_OF_OURS, MASK);
  if (Array.isArray(value)) return value.map(clean);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, SECRET_KEYS.test(key) ? masked(inner) : clean(inner)]),
  );
}

/** Names of variables help an operator; their values are nobody's business. */
function masked(value: unknown): unknown {
  if (value === null || typeof value === 'boolean') return value;
  if (Array.isArray(value)) return value.map(masked);
  if (typeof value !== 'object') return MASK;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, masked(inner)]));
}

function described(text: string): string {
  return DESCRIBED.test(text) ? text : `[string of ${text.length} characters]`;
}

/** Whether a text is an object or a list that was encoded once more. */
function isJson(text: string): boolean {
  if (!/^\s*[[{"]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
