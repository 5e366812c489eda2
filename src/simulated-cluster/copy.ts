import { sameJson } from './patch.ts';
import type { KubeObject, Loose } from './types.ts';

/** A deep copy of a JSON value. For JSON alone: many times faster than structuredClone, which must be ready for anything. */
export function copyJson<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(copyJson) as T;
  // Spread first: it defines properties whatever their names are, where an assignment to a new one may meet a setter.
  const copy: Loose = { ...value };
  for (const name in copy) {
    const part = copy[name];
    if (typeof part === 'object' && part !== null) copy[name] = copyJson(part);
  }
  return copy;
}

/**
 * `next` with those of its parts, and of its metadata's, that equal the ones of `current` taken from there, so that versions share what
 * they have in common: what was worked out for a part holds for all of them. `current` itself when nothing differs.
 */
export function sharing(current: KubeObject, next: KubeObject): KubeObject {
  const metadata = shareParts(current.metadata, next.metadata);
  return shareParts(current, metadata === next.metadata ? next : { ...next, metadata });
}

function shareParts<T extends object>(current: T, next: T): T {
  const [before, result]: [Loose, Loose] = [current, { ...next }];
  let same = Object.keys(before).length === Object.keys(result).length;
  for (const name in result) {
    const part = result[name];
    if (part === before[name]) {
      if (part === undefined && !(name in before)) same = false;
    } else if (sameJson(before[name], part)) result[name] = before[name];
    else same = false;
  }
  return same ? current : result;
}
