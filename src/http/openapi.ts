/** The description of the API: what the schemas of the routes say, and what is true of all routes. */
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod';
import type { OpenAPIV3_1 } from 'openapi-types';
import { documentOf, Problem, PROBLEMS, type ProblemCode } from '../errors.ts';
import type { Access } from '../identity/principal.ts';

type Operation = OpenAPIV3_1.OperationObject & { 'x-access'?: Access };
type Response = OpenAPIV3_1.ResponseObject;

const DESCRIPTION = `The control plane for reserved GPU dev servers.

Requests bear an API key, \`Authorization: Bearer <key>\`. Errors are problem documents (RFC 9457) whose \`code\` programs may rely on. A POST with an
\`Idempotency-Key\` acts once, however often it is sent; with another body under the same key it is refused. Lists are read page by page with the
\`next_cursor\` of the page before. Nobody needs to ask again and again: what happens comes by \`/v1/stream\`.`;

export const DOCUMENT = {
  openapi: '3.1.0' as const,
  info: { title: 'gpu-dev', version: '1', description: DESCRIPTION, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
  servers: [{ url: '/', description: 'Where this description came from.' }],
  tags: [
    { name: 'reservations', description: 'Dev servers: reserve, look, change, follow.' },
    { name: 'jobs', description: 'Reservations under the paths and names that older clients know.' },
    { name: 'capacity', description: 'What there is, and what is free.' },
    { name: 'disks', description: 'Persistent disks and their snapshots.' },
    { name: 'identity', description: 'Logins, keys, users.' },
    { name: 'machines', description: 'The state machines behind it all.' },
    { name: 'admin', description: 'For operators.' },
    { name: 'service', description: 'The service itself.' },
  ],
  components: {
    securitySchemes: {
      apiKey: {
        type: 'http' as const,
        scheme: 'bearer',
        description: 'An API key from a login. The names beside it in a route are the scopes that the key must have.',
      },
    },
  },
};

type RouteData = Parameters<typeof jsonSchemaTransform>[0];

const KEY_HEADER = {
  type: 'string',
  minLength: 1,
  maxLength: 200,
  description: 'Sent again with the same key and body, the request acts once. Keys belong to their user.',
  example: 'run-42',
};
const TAG_HEADER = { type: 'string', description: 'The `ETag` of the answer that you have: 304 if it is still the same.' };
const LAST_ID_HEADER = { type: 'string', description: 'Id of the last event that you have.' };

/** One route: what its schemas say, the scope of its key, and the headers that it knows. */
export function describeRoute(data: RouteData): ReturnType<typeof jsonSchemaTransform> {
  const described = jsonSchemaTransform(data);
  const schema = described.schema as Record<string, unknown> & { hide?: boolean; headers?: object };
  if (schema.hide === true) return described;
  const { config, method } = data.route as { config?: { access?: Access; etag?: boolean }; method: string | string[] };
  const access = config?.access ?? 'public';
  const properties = {
    ...([method].flat().includes('POST') ? { 'Idempotency-Key': KEY_HEADER } : {}),
    ...(config?.etag === true ? { 'If-None-Match': TAG_HEADER } : {}),
    ...(/\/stream$/.test(data.url) ? { 'Last-Event-ID': LAST_ID_HEADER } : {}),
  };
  return {
    ...described,
    schema: {
      ...schema,
      security: access === 'public' ? [] : [{ apiKey: [access.scope] }],
      'x-access': access,
      ...(config?.etag === true ? { 'x-etag': true } : {}),
      ...(Object.keys(properties).length === 0 ? {} : { headers: { type: 'object', properties } }),
    },
  } as unknown as ReturnType<typeof jsonSchemaTransform>;
}

/** Answers that any route of a kind may give, by a problem that stands for them. */
const ANSWERS: Record<number, { code: ProblemCode; detail: string; field?: string }> = {
  400: { code: 'GPU_FIELD_INVALID', detail: 'The field limit: Too big: expected number to be <=500', field: 'limit' },
  401: { code: 'GPU_KEY_MISSING', detail: 'This needs an API key: Authorization: Bearer <key>' },
  403: { code: 'GPU_SCOPE_MISSING', detail: 'This key may not be used for it: it lacks the scope reserve' },
  404: { code: 'GPU_RESERVATION_UNKNOWN', detail: 'There is no reservation 0197c0de-0000-7000-8000-000000000000', field: 'id' },
  409: { code: 'GPU_IDEMPOTENCY_CONFLICT', detail: 'This key was used for another request', field: 'idempotency_key' },
  410: { code: 'GPU_DISK_GONE', detail: 'The disk data is deleted' },
  413: { code: 'GPU_BODY_TOO_LARGE', detail: 'The body is larger than 5 MB' },
  414: { code: 'GPU_PATH_TOO_LONG', detail: 'A part of the path is longer than 100 characters' },
  415: { code: 'GPU_MEDIA_TYPE_UNSUPPORTED', detail: 'The content type must be application/json' },
  422: {
    code: 'GPU_COUNT_INVALID',
    detail: '3 GPUs of h100 cannot be reserved on one node; allowed are 1, 2, 4, 8',
    field: 'gpu_count',
  },
  429: { code: 'GPU_RATE_LIMITED', detail: 'Too many requests with this key; wait a moment' },
  431: { code: 'GPU_HEADERS_TOO_LARGE', detail: 'The headers are larger than 16 kB' },
  500: { code: 'GPU_INTERNAL', detail: 'Something went wrong here' },
  503: { code: 'GPU_DATABASE_BUSY', detail: 'The database does not answer right now' },
};

/** The whole description: schemas by name, and every answer that a route may give. */
export function completeDocument(data: Parameters<typeof jsonSchemaTransformObject>[0]): OpenAPIV3_1.Document {
  const document = jsonSchemaTransformObject(data) as OpenAPIV3_1.Document;
  document.components = { ...document.components, responses: commonResponses() };
  for (const [path, item] of Object.entries(document.paths ?? {})) {
    for (const [method, operation] of Object.entries(item ?? {})) complete(operation as Operation, path, method);
  }
  return document;
}

function complete(operation: Operation, path: string, method: string): void {
  const responses = operation.responses ?? {};
  operation.responses = responses;
  for (const [status, response] of Object.entries(responses)) asProblem(responses, status, response as Response);
  for (const status of statusesOf(operation, path, method))
    responses[status] ??= { $ref: `#/components/responses/Problem${status}` };
  if ((operation as { 'x-etag'?: boolean })['x-etag'] === true) {
    delete (operation as { 'x-etag'?: boolean })['x-etag'];
    const etag = { schema: { type: 'string' as const }, description: 'Tag of this content.' };
    (responses['200'] as Response).headers = { ETag: etag };
    responses['304'] = { description: 'It is what the tag in If-None-Match names.', headers: { ETag: etag } };
  }
  operation.operationId = `${method}${path.replace(/[{}]/g, '').replace(/[^a-zA-Z0-9]+(.)?/g, (_, next: string | undefined) => (next ?? '').toUpperCase())}`;
}

/** A problem's answer bears its own content type; those that say no more than all others of their status are said once. */
function asProblem(responses: OpenAPIV3_1.ResponsesObject, status: string, response: Response): void {
  const json = response.content?.['application/json'];
  const reference = (json?.schema as { $ref?: string } | undefined)?.$ref;
  if (reference !== '#/components/schemas/Problem') return;
  if (ANSWERS[Number(status)] !== undefined) responses[status] = { $ref: `#/components/responses/Problem${status}` };
  else responses[status] = { description: response.description, content: { 'application/problem+json': json! } };
}

function statusesOf(operation: Operation, path: string, method: string): number[] {
  const needsKey = (operation.security ?? []).length > 0;
  const takes = (operation.parameters ?? []).length > 0 || operation.requestBody !== undefined;
  return [
    ...(takes ? [400] : []),
    ...(needsKey ? [401, 403] : []),
    ...(path.includes('{') ? [404, 414] : []),
    ...(['post', 'put', 'patch', 'delete'].includes(method) ? [400, 413, 415] : []),
    429,
    431,
    500,
    503,
  ];
}

function commonResponses(): Record<string, Response> {
  return Object.fromEntries(
    Object.entries(ANSWERS).map(([status, { code, detail, field }]) => {
      const problem = new Problem(code, detail, field === undefined ? {} : { field });
      const waits = status === '429' || status === '503';
      const asks = status === '401';
      const header = (description: string) => ({ schema: { type: 'string' as const }, description });
      return [
        `Problem${status}`,
        {
          description: status === String(PROBLEMS[code].status) ? TITLES[Number(status)]! : PROBLEMS[code].title,
          ...(waits ? { headers: { 'Retry-After': header('Seconds after which it may be tried again.') } } : {}),
          ...(asks ? { headers: { 'WWW-Authenticate': header('`Bearer`: a key is asked for.') } } : {}),
          content: {
            'application/problem+json': {
              schema: { $ref: '#/components/schemas/Problem' },
              example: documentOf(problem, '/v1/reservations', '01a1fe40-0000-7000-8000-000000000000'),
            },
          },
        },
      ];
    }),
  );
}

const TITLES: Record<number, string> = {
  400: 'Something in the request is not allowed; `field` names it.',
  401: 'No valid key was sent.',
  403: 'The key, or its user, may not do this.',
  404: 'There is no such thing, or none that you may know of.',
  409: 'It does not go together with what is there.',
  410: 'It is not there any more.',
  413: 'The body is too large.',
  414: 'The path is too long.',
  415: 'The body is not JSON.',
  422: 'It is understood, and can never be done.',
  429: 'Too much at once, or beyond a quota.',
  431: 'The headers are too large.',
  500: 'Our fault; the request id leads to the cause.',
  503: 'Not now; the same request may be sent again.',
};
