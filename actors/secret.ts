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

const SECRET_KEYS =
  /^(env_vars|environment|password|secret|token|jupyter_token|api_key|authorization|aws_.*|.*(password|secret|token|api_key|private_key))$/i;

/** A copy of JSON in which the values of keys that name secrets are masked, at any depth. */
export function redact(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(redact);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      if (!SECRET_KEYS.test(key)) return [key, redact(inner)];
      // Names of variables help an operator; their values are nobody's business.
      return [key, inner !== null && typeof inner === 'object' && !Array.isArray(inner) ? mask(inner) : MASK];
    }),
  );
}

function mask(record: object): Record<string, string> {
  return Object.fromEntries(Object.keys(record).map((key) => [key, MASK]));
}
