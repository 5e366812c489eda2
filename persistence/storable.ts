/**
 * Text that Postgres can store. Neither U+0000 nor half a surrogate pair fits into text or jsonb, and both come from outside: messages of a
 * container runtime, the cut end of a log. One such string must not stop what it travels with.
 */

/** The text without what cannot be stored. */
export function storableText(text: string): string;
export function storableText(text: string | null): string | null;
export function storableText(text: string | null): string | null {
  return text === null ? null : text.replaceAll('\0', '').toWellFormed();
}

// What JSON.stringify makes of the two: an escape. The look costs little, and nearly always finds nothing.
const SUSPECT = /\\u0000|\\ud[89a-f]/i;

// Texts that are known already, of values that nobody changes.
const texts = new WeakMap<object, string>();

/** Remember the JSON of a value that will be stored and never changed. */
export function rememberJson(value: object, json: string): void {
  texts.set(value, json);
}

/** JSON that can be stored as jsonb. */
export function storableJson(value: unknown): string {
  const json = (typeof value === 'object' && value !== null ? texts.get(value) : undefined) ?? JSON.stringify(value);
  if (!SUSPECT.test(json)) return json;
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner === 'string') return storableText(inner);
    if (inner === null || typeof inner !== 'object' || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).map(([key, each]) => [storableText(key), each]));
  });
}
