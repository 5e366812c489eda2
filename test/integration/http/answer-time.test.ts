/** How long answers may take: real requests to a server whose routes take as long as they are told. */
import { once } from 'node:events';
import http from 'node:http';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Server } from '../../../src/http/deps.ts';
import { EventStream, sendEvents } from '../../../src/http/event-stream.ts';
import { newServer } from '../../../src/http/fastify.ts';

const LIMIT_MS = 150;
const JSON_BODY = { 'content-type': 'application/json' };

let app: Server;
let url: string;
/** Lets the answers that wait go. */
let release: () => void;
/** A stream that comes when its time is up. */
const late = new EventStream();

beforeAll(async () => {
  app = newServer(false, { answerMs: LIMIT_MS });
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const wait = () => released.then(() => ({ late: true }));
  const begin = () => {
    const body = new Readable({ read() {} });
    body.push('begun');
    return body;
  };
  app.get('/waits', wait);
  app.post('/waits', wait);
  app.post('/echo', async ({ body }) => ({ body }));
  app.get('/patient', { config: { answerMs: 60_000 } }, wait);
  app.get('/begins', async (_request, reply) => reply.send(begin()));
  app.get('/endless', { config: { endless: true } }, async (_request, reply) => reply.send(begin()));
  app.get('/endless/late', { config: { endless: true } }, async (_request, reply) => {
    await wait();
    return sendEvents(reply, late);
  });
  url = await app.listen({ port: 0, host: '127.0.0.1' });
});

afterAll(async () => {
  release();
  await app.close();
});

/** An answer that was given up. By then, longer than the limit has passed for whoever asked before. */
async function givenUp(path = '/waits', init: RequestInit = {}): Promise<void> {
  const response = await fetch(`${url}${path}`, init);
  expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1']);
  expect(await response.json()).toMatchObject({ code: 'GPU_TIMEOUT', instance: path });
}

it('who waits for too long is told so, also who has sent a body', async () => {
  await givenUp();
  await givenUp('/waits', { method: 'POST' });
  await givenUp('/waits', { method: 'POST', headers: JSON_BODY, body: '{"a":1}' });
});

it('the time in which a body comes does not count', async () => {
  const headers = { ...JSON_BODY, 'content-length': '9' };
  const request = http.request(`${url}/echo`, { method: 'POST', headers });
  const answered = once(request, 'response') as Promise<[http.IncomingMessage]>;
  request.write('{"a":');
  await givenUp();
  await givenUp();
  request.end('123}');
  const [response] = await answered;
  expect(response.statusCode).toBe(200);
  response.resume();
});

it('an answer that has begun and does not end is cut off, unless its route is endless', async () => {
  const endless = await fetch(`${url}/endless`);
  const heard = endless.body!.getReader();
  expect((await heard.read()).done).toBe(false);
  const cut = await fetch(`${url}/begins`);
  await expect(cut.text()).rejects.toThrow(/terminated/);
  const more = heard.read();
  await givenUp();
  expect(await Promise.race([more, 'nothing yet'])).toBe('nothing yet');
  await heard.cancel();
});

it('an endless answer must begin in time', async () => {
  await givenUp('/endless/late');
});

it('a route may take the time that it has said, and what comes too late harms nobody: a stream is closed', async () => {
  const patient = fetch(`${url}/patient`);
  await givenUp();
  release();
  expect(await (await patient).json()).toEqual({ late: true });
  expect((await fetch(`${url}/waits`)).status).toBe(200);
  await expect.poll(() => late.destroyed).toBe(true);
});
