/** A statement's twin: what its SQL does, in TypeScript over the tables. Found by the statement's text. */
import type { Tables } from './schema.ts';
import type { Tx } from './tables.ts';

// biome-ignore lint/suspicious/noExplicitAny: parameters are whatever their statement takes.
export type Values = readonly any[];

export interface Result {
  // biome-ignore lint/suspicious/noExplicitAny: rows are whatever their statement returns.
  rows: any[];
  rowCount: number;
}

/** Runs a statement in a transaction. @throws Blocked if it must wait; it is run again from its start then */
export type Twin = (tables: Tables, tx: Tx, values: Values) => Result;

const twins = new Map<string, Twin>();

/** Register the twin of a statement. */
export function twin(text: string, run: Twin): void {
  if (twins.has(text)) throw new Error(`Two twins of one statement: ${text}`);
  twins.set(text, run);
}

/** @throws if nobody has written a twin of this statement */
export function twinOf(text: string): Twin {
  const found = twins.get(text);
  if (found === undefined) throw new UnknownStatement(text);
  return found;
}

/** All statements that have a twin. */
export function statementsWithTwins(): readonly string[] {
  return [...twins.keys()];
}

/** The code sends a statement that the simulation does not know. */
export class UnknownStatement extends Error {
  constructor(text: string) {
    super(`This statement has no twin in test/simulation/statements: ${text}`);
  }
}

/** The rows of a result. */
export function rows(list: unknown[]): Result {
  return { rows: list, rowCount: list.length };
}

/** A result without rows. */
export function count(rowCount: number): Result {
  return { rows: [], rowCount };
}

/** A parameter of type timestamptz in milliseconds, or null. */
export function moment(value: unknown): number | null {
  if (value === null || value === undefined) return null;
  if (value instanceof Date) return value.getTime();
  return typeof value === 'number' ? value : Date.parse(value as string);
}

/** coalesce($n::timestamptz, now()) */
export function momentOrNow(value: unknown, tx: Tx): number {
  return moment(value) ?? tx.now;
}

export function dateOf(value: number | null): Date | null {
  return value === null ? null : new Date(value);
}
