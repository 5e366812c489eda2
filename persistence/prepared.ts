/** Statements as they are sent: named, with values that need nothing more. */
import { createHash } from 'node:crypto';
import pg from 'pg';
import { arrayLiteral } from './array-literal.ts';

// Every statement's text is a constant, so each connection parses and plans it once. Statements without parameters are commands
// (begin, savepoint, listen), not worth a name.
const names = new Map<string, string>();

/** A statement as the driver takes it. @throws if a value cannot be sent: nothing was, then */
export function prepared(text: string, values: readonly unknown[] | undefined): pg.QueryConfig {
  if (values === undefined) return { text };
  let name = names.get(text);
  if (name === undefined) {
    name = createHash('sha256').update(text).digest('hex').slice(0, 32);
    names.set(text, name);
  }
  return { name, text, values: values.map(toWire) };
}

const { prepareValue } = (pg as unknown as { utils: { prepareValue(value: unknown): unknown } }).utils;

/**
 * A value as it is sent. The driver would do it too, but only when the statement is on its way: of one that cannot be made (a cycle, a bigint
 * in JSON) the server would not hear, and commit what was sent with it.
 */
function toWire(value: unknown): unknown {
  return Array.isArray(value) ? (arrayLiteral(value) ?? prepareValue(value)) : prepareValue(value);
}
