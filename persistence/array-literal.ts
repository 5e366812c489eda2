/**
 * Arrays as Postgres reads them. The driver makes them too, with two replacements for each text; turns send thousands of texts a second, most
 * of them JSON, so here the engine's own JSON writer does the escaping: it escapes quotes and backslashes as an array literal wants it.
 */

const NEEDS_ESCAPE = /["\\]/;
// What JSON writes in a way that an array literal would take for something else.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for.
const CONTROL = /[\u0000-\u001f]/;
const EACH = /["\\]/g;

function textElement(text: string): string {
  if (!NEEDS_ESCAPE.test(text)) return `"${text}"`;
  if (CONTROL.test(text) || !text.isWellFormed()) return `"${text.replace(EACH, '\\$&')}"`;
  return JSON.stringify(text);
}

/** The literal of an array of texts, numbers, booleans, dates and nulls; null if there is anything else in it. */
export function arrayLiteral(values: readonly unknown[]): string | null {
  let literal = '{';
  for (let index = 0; index < values.length; index++) {
    const value = values[index];
    if (index > 0) literal += ',';
    if (typeof value === 'string') literal += textElement(value);
    else if (value === null || value === undefined) literal += 'NULL';
    else if (typeof value === 'number' || typeof value === 'boolean') literal += String(value);
    else if (value instanceof Date) literal += `"${value.toISOString()}"`;
    else return null;
  }
  return `${literal}}`;
}
