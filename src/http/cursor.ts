/** Cursors: opaque to their holders, they say where the page before ended. */
import { Problem } from '../errors.ts';

/** What a part of a cursor looks like. */
export interface Shape {
  test(text: string): boolean;
}

/** A cursor of these parts. */
export function sealCursor(...parts: readonly string[]): string {
  return Buffer.from(JSON.stringify(parts)).toString('base64url');
}

/**
 * The parts of a cursor that was given before; null if there is none.
 * @param shapes what each part looks like
 * @throws Problem if it is none of ours
 */
export function openCursor<P extends readonly Shape[]>(
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

const POSTGRES_MOMENT = /^(?!0000)\d{4}-\d\d-\d\d ([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?\+00$/;

/** A moment as Postgres writes it, exact to the microsecond; one that the calendar has. */
export const MOMENT: Shape = {
  test: (text) => {
    if (!POSTGRES_MOMENT.test(text)) return false;
    const day = new Date(`${text.slice(0, 10)}T00:00:00Z`);
    return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text.slice(0, 10));
  },
};
/** A whole number. */
export const NUMBER = /^\d{1,15}$/;
/** A name or an id, whatever it is of. */
export const NAME = /^[^\0]{1,253}$/;
