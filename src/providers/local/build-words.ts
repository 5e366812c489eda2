/** What builds write, without secrets: known values first, then whatever looks like a credential. */
import type { LogLine } from '../../../actors/image/ports.ts';

const MASK = '[secret]';

const CREDENTIALS: readonly [RegExp, string][] = [
  [/\b(authorization["']?\s*[:=]).*/gi, `$1 ${MASK}`],
  [
    /\b([\w-]{0,40}(?:bearer|basic|token|password|passwd|secret|api[_-]?key))\b(["']?\s*[:= ]\s*["']?)(?!\[secret\])\S+/gi,
    `$1$2${MASK}`,
  ],
  [
    /\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bhf_[A-Za-z0-9]{20,}|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bey[A-Za-z0-9_-]{20,}\.[A-Za-z0-9._-]+/g,
    MASK,
  ],
  [/\b(\w{1,20}:\/\/)[^/\s:@]+:[^/\s@]+@/g, `$1${MASK}@`],
];
/** Long opaque text; a digest of an image is none. */
const OPAQUE = /(?<!sha256:)\b[A-Za-z0-9+/_-]{80,}={0,2}/g;

/** Text without these values, and without what looks like a credential: tokens, passwords in URLs, long opaque strings. */
export function withoutCredentials(text: string, values: readonly string[] = []): string {
  const known = values.reduce((clean, value) => clean.replaceAll(value, MASK), text);
  return CREDENTIALS.reduce((clean, [pattern, mask]) => clean.replace(pattern, mask), known).replace(OPAQUE, MASK);
}

/** Shorter values than this are words of every log. */
const SHORTEST = 6;

/** The values in a docker configuration that nobody may see, longest first, so that none is cut by a shorter one. */
export function secretsOfDockerConfig(text: string): string[] {
  const found = new Set<string>();
  const visit = (value: unknown, key: string): void => {
    if (typeof value === 'string' && /auth|pass|token|secret/i.test(key)) {
      found.add(value);
      // user:password, encoded.
      const plain = Buffer.from(value, 'base64').toString('utf8');
      const colon = plain.indexOf(':');
      if (key === 'auth' && colon > 0) found.add(plain.slice(colon + 1)).add(plain);
    } else if (typeof value === 'object' && value !== null) {
      for (const [name, inner] of Object.entries(value)) visit(inner, name);
    }
  };
  try {
    visit(JSON.parse(text), '');
  } catch {
    return [];
  }
  return [...found].filter((value) => value.length >= SHORTEST).sort((a, b) => b.length - a.length);
}

const LONGEST_LINE = 2_000;
/** What is looked through of a line, and how much of its cut end may be half of a secret. */
const LOOKED_THROUGH = 4_000;
const CUT_END = 1_000;

/** A line as far as it is worth looking through: a build may write half a megabyte without an end of line. */
export function shortened(line: string): string {
  return line.length <= LOOKED_THROUGH ? line : line.slice(0, LOOKED_THROUGH - CUT_END);
}

/** The lines of a log with timestamps, from `since` on, without secrets. */
export function linesOf(log: string, since: string | null, values: readonly string[]): LogLine[] {
  return log.split('\n').flatMap((line): LogLine[] => {
    const [, at, text] = /^(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)) (.*?)\r?$/.exec(line) ?? [];
    if (at === undefined || text === undefined || (since !== null && Date.parse(at) < Date.parse(since))) return [];
    return [{ at, text: withoutCredentials(shortened(text), values).slice(0, LONGEST_LINE) }];
  });
}
