import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { Validator } from '@seriousme/openapi-schema-validator';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROBLEMS } from '../../../actors/problem.ts';
import { type HttpWorld, type Json, startHttp } from './support.ts';

let http: HttpWorld;
let document: Json;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1 } });
  await http.app.listen({ host: '127.0.0.1', port: 0 });
  document = (await http.get('/openapi.json', null)).body;
});
afterAll(async () => {
  await http?.stop();
});

const operations = (): { name: string; path: string; method: string; operation: Json }[] =>
  Object.entries<Json>(document.paths).flatMap(([path, item]) =>
    Object.entries<Json>(item).map(([method, operation]) => ({ name: `${method} ${path}`, path, method, operation })),
  );
const resolve = (response: Json): Json =>
  response.$ref === undefined ? response : document.components.responses[response.$ref.split('/').at(-1)!];

describe('GET /openapi.json', () => {
  it('is OpenAPI 3.1 as a validator of it understands it', async () => {
    const { valid, errors } = await new Validator().validate(structuredClone(document));
    expect(errors ?? []).toEqual([]);
    expect([valid, document.openapi]).toEqual([true, '3.1.0']);
  });

  it('says of every operation what it is for, who may call it, and every answer that it may give', () => {
    const ids = new Set<string>();
    for (const { name, path, method, operation } of operations()) {
      expect(operation.summary, name).toBeTruthy();
      expect(operation.tags, name).toHaveLength(1);
      ids.add(operation.operationId);
      const isPublic = operation['x-access'] === 'public';
      expect(operation.security, name).toEqual(isPublic ? [] : [{ apiKey: [operation['x-access'].scope] }]);
      const statuses = Object.keys(operation.responses);
      const must = ['429', '431', '500', '503'];
      if (!isPublic) must.push('401', '403');
      if (path.includes('{')) must.push('404', '414');
      if (method === 'post') must.push('400', '413', '415');
      for (const status of must) expect(statuses, `${name} ${status}`).toContain(status);
      for (const [status, response] of Object.entries<Json>(operation.responses)) {
        const { content } = resolve(response);
        if (Number(status) < 400 || ((path === '/health' || path === '/health/ready') && status === '503')) continue;
        expect(Object.keys(content ?? {}), `${name} ${status}`).toEqual(['application/problem+json']);
      }
      if (method === 'post') {
        const headers = (operation.parameters ?? []).filter((one: Json) => one.in === 'header').map((one: Json) => one.name);
        expect(headers, name).toContain('Idempotency-Key');
      }
    }
    expect(ids.size).toBe(operations().length);
  });

  it('gives an example of each common error that is true of its status', () => {
    for (const [name, response] of Object.entries<Json>(document.components.responses)) {
      const { example } = response.content['application/problem+json'];
      expect(`Problem${example.status}`).toBe(name);
      expect(PROBLEMS[example.code as keyof typeof PROBLEMS].status).toBe(example.status);
    }
  });

  it('knows the paths that programs rely on', () => {
    const names = operations().map(({ name }) => name);
    for (const path of [
      'get /',
      'get /health',
      'post /v1/auth/aws-login',
      'post /v1/keys/rotate',
      'post /v1/jobs/submit',
      'get /v1/jobs/{id}',
      'get /v1/jobs',
      'get /v1/gpu/availability',
      'get /v1/cluster/status',
      'get /v1/reservations/{id}/stream',
      'get /v1/stream',
    ])
      expect(names).toContain(path);
  });
});

describe('GET /docs', () => {
  it('is a page that needs nothing from elsewhere, and may load nothing from there', async () => {
    const page = await http.app.inject({ url: '/docs' });
    expect([page.statusCode, page.headers['content-type']]).toEqual([200, 'text/html; charset=utf-8']);
    const policy = String(page.headers['content-security-policy']);
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/https?:|\*|unsafe|upgrade-insecure/);
    // Neither scripts nor styles stand in the page itself, which the policy would forbid.
    expect(page.body).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/);
    const files = [...page.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, file]) => file!);
    expect(files.length).toBeGreaterThan(4);
    for (const file of files) {
      expect(file).toMatch(/^\/docs\/static\//);
      const answer = await http.app.inject({ url: file });
      expect([file, answer.statusCode, String(answer.headers['content-security-policy'])]).toEqual([file, 200, policy]);
    }
    const start = (await http.app.inject({ url: '/docs/static/swagger-initializer.js' })).body;
    expect(start).toContain('"validatorUrl":null');
    expect((await http.app.inject({ url: '/docs/json' })).json()).toEqual(document);
  });
});

describe('errors before there is a route', () => {
  const raw = (text: string) =>
    new Promise<string>((done, fail) => {
      const { port } = http.app.server.address() as AddressInfo;
      const socket = connect(port, '127.0.0.1', () => socket.write(text));
      let answer = '';
      socket.on('data', (chunk) => (answer += chunk)).on('error', fail);
      socket.on('close', () => done(answer));
    });
  const problem = (answer: string): Json => JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4));

  it('are problem documents too: a path that is too long or broken, headers that are too large, no HTTP at all', async () => {
    const long = await http.get(`/v1/reservations/${'a'.repeat(200)}`, 'ada');
    expect(long).toMatchObject({ status: 414, body: { code: 'GPU_PATH_TOO_LONG', status: 414 } });
    expect(long.headers['content-type']).toBe('application/problem+json; charset=utf-8');
    expect(long.headers['x-request-id']).toBe(long.body.request_id);
    expect((await http.get('/v1/reservations/%zz', 'ada')).body).toMatchObject({ status: 400, code: 'GPU_REQUEST_INVALID' });
    const large = await raw(`GET / HTTP/1.1\r\nhost: x\r\nx-large: ${'a'.repeat(20_000)}\r\n\r\n`);
    expect(large).toMatch(/^HTTP\/1\.1 431 /);
    expect(problem(large)).toMatchObject({ status: 431, code: 'GPU_HEADERS_TOO_LARGE' });
    const none = await raw('hello\r\n\r\n');
    expect(none).toMatch(/^HTTP\/1\.1 400 .*application\/problem\+json/s);
    expect(problem(none)).toMatchObject({ status: 400, code: 'GPU_REQUEST_INVALID' });
  });
});

describe('tags', () => {
  it('spare the body of what has not changed', async () => {
    const made = await http.post(
      '/v1/reservations',
      { gpu_type: 't4', duration_hours: 1, no_persistent_disk: true },
      { user: 'ada' },
    );
    const { id } = made.body;
    await http.world.reaches(id, 'running');
    const ask = async (url: string, tag?: string) =>
      http.app.inject({ url, headers: { ...(await http.as('ada')), ...(tag === undefined ? {} : { 'if-none-match': tag }) } });
    for (const url of [`/v1/reservations/${id}`, '/v1/gpus', '/v1/machines', '/v1/machines/reservation', '/openapi.json']) {
      const first = await ask(url);
      const tag = String(first.headers['etag']);
      expect([first.statusCode, tag, first.headers['cache-control']]).toEqual([
        200,
        expect.stringMatching(/^W\/"[\w-]{27}"$/),
        'private, no-cache',
      ]);
      const again = await ask(url, `"other", ${tag}`);
      expect([url, again.statusCode, again.body, again.headers['etag']]).toEqual([url, 304, '', tag]);
      expect((await ask(url, '"other"')).statusCode).toBe(200);
    }
    const { headers } = await ask(`/v1/reservations/${id}`);
    await http.post(`/v1/reservations/${id}/events`, { type: 'extend', extension_hours: 1 }, { user: 'ada' });
    expect((await ask(`/v1/reservations/${id}`, String(headers['etag']))).statusCode).toBe(200);
    expect((await ask(`/v1/reservations/${id.slice(0, -4)}0000`, '*')).statusCode).toBe(404);
  });
});

describe('the cluster in numbers', () => {
  it('is told in the shapes that older clients know', async () => {
    const first = await http.get('/v1/gpu/availability', 'eve');
    expect(first.body.availability.t4).toEqual({ gpu_type: 't4', total: 4, available: 3, in_use: 1, queued: 0, max_per_node: 4 });
    await http.post(
      '/v1/reservations',
      { gpu_type: 't4', gpu_count: 4, duration_hours: 1, no_persistent_disk: true },
      { user: 'eve' },
    );
    const status = await http.get('/v1/cluster/status', 'eve');
    expect(status.body).toMatchObject({
      total_gpus: 4,
      available_gpus: 3,
      in_use_gpus: 1,
      queued_gpus: 4,
      active_reservations: 1,
      preparing_reservations: 0,
      queued_reservations: 1,
      pending_reservations: 0,
      by_gpu_type: { t4: { total: 4, queued: 4 } },
    });
    expect(Date.parse(status.body.timestamp)).toBeGreaterThan(0);
  });
});
