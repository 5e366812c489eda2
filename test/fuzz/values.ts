// Values by a JSON schema, as senders write them when all is well, and ways to spoil them.
import fc from 'fast-check';

/** A JSON schema as the API's own description uses it. */
export interface Schema {
  $ref?: string;
  type?: string | string[];
  const?: unknown;
  enum?: unknown[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  items?: Schema;
  minItems?: number;
  maxItems?: number;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  format?: string;
}

export type Resolve = (reference: string) => Schema;

/** Values that the service has told before, which the field or parameter of this name may mean. */
export type Told = (name: string) => readonly string[];

/** What fits the schema, or nearly: patterns that look ahead are not followed. @param name of the field or parameter */
export function fitting(schema: Schema, resolve: Resolve, told: Told, name = '', depth = 0): fc.Arbitrary<unknown> {
  const inner = (each: Schema, field = name) => fitting(each, resolve, told, field, depth + 1);
  if (depth > 6) return fc.constant(null);
  if (schema.$ref !== undefined) return inner(resolve(schema.$ref));
  if ('const' in schema) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return fc.oneof(...choices.map((each) => inner(each)));
  if (schema.allOf !== undefined)
    return fc
      .tuple(...schema.allOf.map((each) => inner(each)))
      .map((parts) => Object.assign({}, ...(parts as object[])) as unknown);
  const types = Array.isArray(schema.type) ? schema.type : [schema.type];
  if (types.length > 1) return fc.oneof(...types.map((type) => inner({ ...schema, type: type! })));
  switch (types[0]) {
    case 'string':
      return text(schema, told(name));
    case 'integer':
    case 'number':
      return number(schema);
    case 'boolean':
      return fc.boolean();
    case 'null':
      return fc.constant(null);
    case 'array':
      return fc.array(inner(schema.items ?? {}), {
        minLength: Math.min(schema.minItems ?? 0, 3),
        maxLength: Math.min(schema.maxItems ?? 3, 3),
      });
    case 'object':
      return object(schema, inner);
    default:
      return fc.jsonValue({ maxDepth: 2 });
  }
}

function text({ minLength = 0, maxLength = 40, pattern, format }: Schema, names: readonly string[]): fc.Arbitrary<string> {
  const told = fc.nat().map((index) => names[index % Math.max(1, names.length)] ?? 'nothing');
  if (format === 'date-time')
    return fc.oneof(
      fc.date({ noInvalidDate: true, min: new Date(0), max: new Date('2100-01-01') }).map((date) => date.toISOString()),
      told,
    );
  if (format === 'uuid') return fc.oneof(fc.uuid(), told);
  if (pattern !== undefined) {
    try {
      return fc.oneof(fc.stringMatching(new RegExp(pattern)), told);
    } catch {
      return told;
    }
  }
  return fc.oneof(
    told,
    fc.string({ minLength, maxLength: Math.min(maxLength, 60) }),
    fc.string({ unit: 'binary', minLength, maxLength: Math.min(maxLength, 20) }),
  );
}

function number({ type, minimum, maximum, exclusiveMinimum }: Schema): fc.Arbitrary<number> {
  const low = Math.max(minimum ?? exclusiveMinimum ?? -1_000, -1e9);
  const high = Math.max(low, Math.min(maximum ?? low + 1_000, 1e9));
  const near = fc.constantFrom(low, high, (low + high) / 2);
  const whole = fc.integer({ min: Math.ceil(low), max: Math.max(Math.ceil(low), Math.floor(high)) });
  return type === 'integer' ? whole : fc.oneof(near, whole, fc.double({ min: low, max: high, noNaN: true }));
}

function object(schema: Schema, inner: (each: Schema, field?: string) => fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  const { properties = {}, required = [], additionalProperties } = schema;
  const fields = Object.fromEntries(Object.entries(properties).map(([name, each]) => [name, inner(each, name)]));
  const known = fc.record(fields, { requiredKeys: required.filter((name) => name in fields) });
  if (typeof additionalProperties !== 'object') return known;
  const more = fc.dictionary(fc.string({ minLength: 1, maxLength: 12 }), inner(additionalProperties), { maxKeys: 3 });
  return fc.tuple(known, more).map(([one, other]) => ({ ...other, ...one }));
}

/** What nobody means to send. */
const NASTY: readonly unknown[] = [
  ...[
    '',
    ' ',
    '\u0000',
    '\ud800',
    '💥'.repeat(40),
    'x'.repeat(5_000),
    '../../etc/passwd',
    "'; drop table actors; --",
    '{{7*7}}',
    '%00',
    'NaN',
  ],
  ...['__proto__', 'constructor', 'xstate.init', '-1', '1e999', '2026-02-30T25:61:00Z', '00000000-0000-0000-0000-000000000000'],
  ...[0, -0, -1, 1.5, 2 ** 31, 2 ** 53, 1e308, -1e308, true, false, null, [], {}, [[]], [null], { length: -1 }, { toString: 1 }],
  ...[JSON.parse('{"__proto__": {"admin": true}}'), JSON.parse('['.repeat(60) + ']'.repeat(60))],
];
export const nasty: fc.Arbitrary<unknown> = fc.oneof(fc.constantFrom(...NASTY), fc.jsonValue({ maxDepth: 3 }));

/** The same value with something in it that does not belong there. */
export function spoiled(value: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return fc.tuple(value, nasty, fc.nat(), fc.nat({ max: 3 })).map(([good, bad, where, how]) => {
    if (good === null || typeof good !== 'object' || how === 3) return bad;
    const copy = structuredClone(good) as Record<string, unknown>;
    const names = Object.keys(copy);
    if (how === 0 || names.length === 0) copy[typeof bad === 'string' ? bad.slice(0, 40) : 'surplus'] = bad;
    else if (how === 1) delete copy[names[where % names.length]!];
    else copy[names[where % names.length]!] = bad;
    return copy;
  });
}
