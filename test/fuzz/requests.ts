// Requests to every operation that the API's own description tells of: as they should be, nearly, and not at all.
import fc from 'fast-check';
import type { InjectOptions } from 'fastify';
import type { Known } from './known.ts';
import { fitting, nasty, type Resolve, type Schema, spoiled } from './values.ts';

interface Parameter {
  name: string;
  in: 'path' | 'query' | 'header';
  required?: boolean;
  schema: Schema;
}
interface Operation {
  parameters?: Parameter[];
  requestBody?: { content?: Record<string, { schema?: Schema }> };
  responses?: Record<string, { content?: Record<string, { schema?: Schema }> }>;
}
export interface Description {
  paths: Record<string, Record<string, Operation>>;
  components?: { schemas?: Record<string, Schema> };
}

/** One operation of the API. */
export interface Endpoint {
  /** `METHOD /path`. */
  name: string;
  method: string;
  path: string;
  operation: Operation;
}

/** What is sent, and to which operation. */
export interface FuzzRequest {
  endpoint: string;
  /** Who sends it; the test knows their keys. */
  caller: string;
  options: InjectOptions & { url: string };
}

/** All operations, in the order of the description. @param leaveOut answers without end, which cannot be waited for */
export function endpointsOf(description: Description, leaveOut: (path: string) => boolean): Endpoint[] {
  return Object.entries(description.paths).flatMap(([path, operations]) =>
    leaveOut(path)
      ? []
      : Object.entries(operations).map(([method, operation]) => ({
          name: `${method.toUpperCase()} ${path}`,
          method: method.toUpperCase(),
          path,
          operation,
        })),
  );
}

export interface Surroundings {
  resolve: Resolve;
  known: Known;
  /** Who asks; named more than once, more often. */
  callers: readonly string[];
  /** Bodies that are as they should be, by `METHOD /path`: chance alone rarely writes one. */
  examples: Readonly<Record<string, readonly unknown[]>>;
}

/** Any request to any operation. */
export function requests(endpoints: readonly Endpoint[], surroundings: Surroundings): fc.Arbitrary<FuzzRequest> {
  return fc.oneof(...endpoints.map((endpoint) => requestTo(endpoint, surroundings)));
}

const HEADERS: readonly Record<string, string>[] = [
  ...Array.from({ length: 20 }, () => ({})),
  ...[
    {},
    {},
    {},
    { 'content-type': 'text/plain' },
    { 'content-type': 'application/json; charset=utf-16' },
    { accept: 'text/html' },
  ],
  ...[
    { 'if-none-match': '*' },
    { 'if-none-match': '"x"' },
    { 'last-event-id': '-1' },
    { 'idempotency-key': 'k'.repeat(300) },
    { 'idempotency-key': '' },
  ],
  ...[
    { 'x-request-id': '<script>' },
    { origin: 'https://evil.example' },
    { 'x-forwarded-for': '10.0.0.1' },
    { range: 'bytes=0-' },
  ],
];

function requestTo(endpoint: Endpoint, { resolve, known, callers, examples }: Surroundings): fc.Arbitrary<FuzzRequest> {
  const { method, path, operation } = endpoint;
  const value = (schema: Schema, name = '') => fitting(schema, resolve, known.told, name);
  // What is told is looked up when a request is made: by then much more is known.
  const toldFor = (name: string) => fc.nat().map((index) => pick(known.forPath(endpoint, name), index));
  const parameters = operation.parameters ?? [];
  const of = (place: Parameter['in'], make: (each: Parameter) => fc.Arbitrary<unknown>) =>
    Object.fromEntries(parameters.filter((each) => each.in === place).map((each) => [each.name, make(each)]));
  const inPath = fc.record(
    of('path', ({ name, schema }) =>
      fc.oneof(
        { weight: 8, arbitrary: toldFor(name) },
        { weight: 1, arbitrary: value(schema, name) },
        { weight: 1, arbitrary: nasty },
      ),
    ),
  );
  const asked = of('query', ({ name, schema }) =>
    fc.oneof({ weight: 6, arbitrary: value(schema, name) }, { weight: 1, arbitrary: nasty }),
  );
  const query = fc.oneof(fc.constant({} as Record<string, unknown>), fc.record(asked, { requiredKeys: [] }));
  const schema = operation.requestBody?.content?.['application/json']?.schema;
  const good = examples[endpoint.name];
  const body: fc.Arbitrary<unknown> =
    schema === undefined
      ? fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: nasty })
      : fc.oneof(
          { weight: 5, arbitrary: good === undefined ? value(schema) : fc.constantFrom(...good) },
          { weight: 2, arbitrary: value(schema) },
          { weight: 2, arbitrary: spoiled(good === undefined ? value(schema) : fc.constantFrom(...good)) },
          { weight: 1, arbitrary: nasty },
        );
  const broken = fc.oneof(
    { weight: 30, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: fc.constantFrom('{', '[1,', '"', '\u0000', '{"a":1}{"b":2}') },
  );
  return fc
    .record({
      inPath,
      query,
      body,
      broken,
      headers: fc.constantFrom(...HEADERS),
      caller: fc.constantFrom(...callers),
      surplus: fc.boolean(),
    })
    .map(({ inPath: names, query: asked, body: sent, broken: raw, headers, caller, surplus }) => {
      const url = path.replace(/\{(\w+)\}/g, (_, name: string) => segmentOf(names[name]));
      const search = new URLSearchParams(
        Object.entries(asked).flatMap(([name, each]): [string, string][] =>
          each === undefined ? [] : [[name, wellFormed(each)]],
        ),
      );
      if (surplus && search.size > 0) search.append([...search.keys()][0]!, 'again');
      const payload = raw ?? (sent === undefined ? undefined : JSON.stringify(sent));
      return {
        endpoint: endpoint.name,
        caller,
        options: {
          method: method as 'GET',
          url: `${url}${search.size > 0 ? `?${search}` : ''}`.slice(0, 6_000),
          headers: { ...(payload === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
          ...(payload === undefined ? {} : { payload }),
        },
      };
    });
}

function pick(values: readonly string[], index: number): string {
  return values[index % Math.max(1, values.length)] ?? 'nothing';
}

/** A segment of a path. A URL cannot have "." or ".." there, which mean this path and the one above it, however they are written. */
function segmentOf(value: unknown): string {
  const text = wellFormed(value);
  return encodeURIComponent(/^\.{0,2}$/.test(text) ? 'x' : text);
}

/** As text that can stand in an address. */
function wellFormed(value: unknown): string {
  return (typeof value === 'string' ? value : JSON.stringify(value ?? null)).toWellFormed();
}
