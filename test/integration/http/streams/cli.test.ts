import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { run } from '../../../../src/cli/program.ts';
import { type HttpWorld, startHttp } from '../support.ts';
import { type Replica, startReplica } from './support.ts';

let http: HttpWorld;
let here: Replica;
/** An older service, as far as a client can tell: it has no streams. */
let older: Server;
const asked: string[] = [];
const home = mkdtempSync(join(tmpdir(), 'gpu-dev-cli-'));
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1 } });
  here = await startReplica(http.world);
  older = createServer((incoming, answer) => {
    asked.push(`${incoming.method} ${incoming.url}`);
    const onward = request(
      `${here.url}${incoming.url!.replace(/\/stream$/, '/nothing')}`,
      { method: incoming.method!, headers: incoming.headers },
      (response) => {
        answer.writeHead(response.statusCode!, response.headers);
        response.pipe(answer);
      },
    );
    incoming.pipe(onward);
  });
  await new Promise<void>((resolve) => older.listen(0, '127.0.0.1', resolve));
});
afterAll(async () => {
  older?.close();
  older?.closeAllConnections();
  await here?.app.close();
  await http?.stop();
  rmSync(home, { recursive: true });
});

function watch(id: string, url: string, ...options: string[]): { text: () => string; ended: Promise<number> } {
  const out: string[] = [];
  const ended = run(['watch', id, ...options], {
    environment: { HOME: home, GPU_DEV_URL: url, GPU_DEV_USER: 'ada' },
    directory: '/nowhere',
    out: { write: (text) => out.push(text) },
    err: { write: (text) => out.push(text) },
    interrupted: new AbortController().signal,
  });
  return { text: () => out.join(''), ended };
}
async function running(name: string): Promise<string> {
  const wish = { gpu_type: 't4', duration_hours: 2, no_persistent_disk: true, name };
  const { id } = (await http.post('/v1/reservations', wish, { user: 'ada' })).body;
  await http.world.reaches(id, 'running');
  return id;
}
const cancel = (id: string) => http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: 'ada' });

it('shows a warning as a line of its own', async () => {
  const id = await running('warned');
  const watching = watch(id, here.url);
  await http.world.until('it is watched', async () => watching.text().includes('running.serving'));
  await http.world.db.query(`update deadlines set due_at = now() where actor = $1 and name = 'warn30'`, [`reservation/${id}`]);
  await http.world.until('the warning is shown', async () =>
    /^warned ends in 30 minutes, at .*: save your work/m.test(watching.text()),
  );
  await cancel(id);
  expect(await watching.ended).toBe(0);
  expect(watching.text()).toMatch(/^cancelled · Cancelled by its owner$/m);
});

it('asks again and again where there are no streams', async () => {
  const id = await running('asked');
  const watching = watch(id, `http://127.0.0.1:${(older.address() as AddressInfo).port}`);
  await http.world.until('it is watched', async () => watching.text().includes('running.serving'));
  await cancel(id);
  expect(await watching.ended).toBe(0);
  expect(asked.filter((each) => each.endsWith('/stream'))).toHaveLength(1);
  expect(asked.filter((each) => each === `GET /v1/reservations/${id}`).length).toBeGreaterThan(1);
});

it('goes on by itself when the service is replaced, and shows nothing twice', async () => {
  const id = await running('moved');
  const first = await startReplica(http.world);
  const { port } = first.app.server.address() as AddressInfo;
  const watching = watch(id, first.url, '--json');
  await http.world.until('it is watched', async () => watching.text().includes('"running"'));
  await first.app.close();
  const second = await startReplica(http.world, {}, port);
  await cancel(id);
  expect(await watching.ended).toBe(0);
  const lines = watching.text().trim().split('\n');
  expect(JSON.parse(lines.at(-1)!).state).toBe('cancelled');
  expect(new Set(lines).size).toBe(lines.length);
  await second.app.close();
});
