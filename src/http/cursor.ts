/** Cursors: opaque to their holders, they say where the page before ended. */
import { Problem } from '../errors.ts';

/** A cursor of these parts. */
export function sealCursor(...parts: readonly string[]): string {
  return Buffer.from(JSON.stringify(parts)).toString('base64url');
}

/**
 * The parts of a cursor that was given before; null if there is none.
 * @param shapes what each part looks like
 * @throws Problem if it is none of ours
 */
export function openCursor<P extends readonly RegExp[]>(
  cursor: string | undefined,
  ...shapes: P
): { [K in keyof P]: string } | null {
  if (cursor === undefined) return null;
  const parts = partsOf(cursor);
  if (parts.length === shapes.length && shapes.every((shape, index) => shape.test(parts[index]!))) {
    return parts as { [K in keyof P]: string };
  }
  throw new Problem('GPU_FIELD_INVALID', 'The field cursor is not one that a list has given', { field: 'cursor' });
}

function partsOf(cursor: string): string[] {
  try {
    const parts = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown;
    return Array.isArray(parts) && parts.every((part) => typeof part === 'string') ? parts : [];
  } catch {
    return [];
  }
}

/** A moment as Postgres writes it, exact to the microsecond. */
export const MOMENT = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00$/;
/** A whole number. */
export const NUMBER = /^\d{1,15}$/;
/** A name or an id, whatever it is of. */
export const NAME = /^[^\0]{1,253}$/;
