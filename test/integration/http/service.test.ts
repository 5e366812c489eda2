import { request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { reservationMachine } from '../../../machines/reservation.machine.ts';
import { type AnyStateNode, createMachine } from 'xstate';
import { type HttpWorld, type Json, startHttp } from './support.ts';

/** The ids of a state and of all below it. */
function idsOf(node: AnyStateNode): string[] {
  return [node.id, ...Object.values(node.states).flatMap(idsOf)];
}

let http: HttpWorld;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1 } });
});
afterAll(async () => {
  await http?.stop();
});

describe('the machines', () => {
  it('are given as complete XState JSON, by name or name.json', async () => {
    const { body: list } = await http.get('/v1/machines');
    expect(list.machines.map((one: { name: string }) => one.name)).toEqual(['reservation', 'gpu-pool', 'disk', 'image']);
    for (const { name, url, description } of list.machines) {
      const { status, body } = await http.get(url);
      expect([status, description !== '']).toEqual([200, true]);
      expect((await http.get(`${url}.json`)).body).toEqual(body);
      expect(Object.keys(body.states).length, name).toBeGreaterThan(1);
    }
    const { body } = await http.get('/v1/machines/reservation');
    expect(Object.keys(body.states)).toEqual(Object.keys(reservationMachine.config.states ?? {}));
    expect(body.states.extending.on['extension.allowed'].target).toBe('#reservation.running.serving');
    // What comes out builds a machine again, with the same states.
    expect(idsOf(createMachine(body).root)).toEqual(idsOf(reservationMachine.root));
    for (const name of ['nothing', '__proto__', 'constructor']) {
      expect((await http.get(`/v1/machines/${name}`)).body).toMatchObject({ status: 404, code: 'GPU_MACHINE_UNKNOWN' });
    }
  });
});

describe('the service', () => {
  it('says what it is, and answers unknown paths with a problem', async () => {
    const { body } = await http.get('/');
    for (const link of Object.values<string>(body.links)) expect((await http.get(link)).status, link).toBe(200);
    expect((await http.get('/v2/nothing')).body).toMatchObject({ status: 404, code: 'GPU_NOT_FOUND', instance: '/v2/nothing' });
  });

  it('is live whatever happens, and ready when all it stands on is', async () => {
    expect((await http.get('/health/live')).body).toEqual({ status: 'live' });
    expect((await http.get('/health/ready')).body).toMatchObject({ status: 'ready', database: { ok: true } });
    http.health.tracker = { ok: false, detail: 'nothing heard for 5 min' };
    const { status, body } = await http.get('/health/ready');
    expect([status, body.status, body.tracker.detail]).toEqual([503, 'unavailable', 'nothing heard for 5 min']);
    http.health.tracker = { ok: true, detail: 'seen' };
  });

  it('tells load balancers in four words whether it is healthy, and strangers no more than that', async () => {
    const fine = await http.get('/health', null);
    expect([fine.status, fine.body]).toEqual([
      200,
      {
        status: 'healthy',
        database: 'healthy',
        queue: 'healthy',
        timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      },
    ]);
    http.health.queue = { ok: false, detail: 'relation "pgmq.q_x" does not exist' };
    const sick = await http.get('/health', null);
    expect([sick.status, sick.body]).toEqual([
      503,
      { ...fine.body, status: 'unhealthy', queue: 'unhealthy', timestamp: sick.body.timestamp },
    ]);
    http.health.queue = { ok: true, detail: 'gpu_reservations' };
  });

  it('gives its numbers to Prometheus', async () => {
    await http.post('/v1/reservations', { gpu_type: 't4', duration_hours: 1, no_persistent_disk: true }, { user: 'ada' });
    const { body } = await http.get('/metrics');
    for (const line of [
      /^gpu_dev_kernel\{what="turns"\} [1-9]/m,
      /^gpu_dev_kernel\{what="listening"\} 1$/m,
      /^gpu_dev_database_connections\{state="max"\} 8$/m,
      /^gpu_dev_database_up 1$/m,
      /^gpu_dev_actors\{kind="gpu-pool",state="\w+"\} \d+$/m,
      /^gpu_dev_actors\{kind="reservation",state="\w+"\} 1$/m,
      /^gpu_dev_mailbox_depth \d+$/m,
      /^gpu_dev_effects_pending \d+$/m,
      /^gpu_dev_dead_letters_open 0$/m,
      /^gpu_dev_deadline_oldest_due_seconds \d/m,
      /^gpu_dev_tracker_age_seconds \d/m,
      /^gpu_dev_http_request_duration_seconds_count\{method="POST",route="\/v1\/reservations",status="202"\} 1$/m,
      /^process_cpu_seconds_total /m,
    ]) {
      expect(body).toMatch(line);
    }
  });

  it('lists disks and tells what became of a disk operation', async () => {
    await http.world.send(
      { action: 'create_disk', user_id: 'ada', disk_name: 'big', size_gb: 500, operation_id: 'op-1' },
      'disk_operations',
    );
    const done = await http.world.until('the operation is done', async () => {
      const { status, body } = await http.get('/v1/operations/op-1');
      return status === 200 && body.status !== 'pending' ? body : null;
    });
    expect(done).toMatchObject({ operation_id: 'op-1', user_id: 'ada', action: 'create', status: 'completed', error: null });
    const { body } = await http.get('/v1/disks?user=ada');
    expect(body.disks).toMatchObject([{ name: 'big', size_gb: 500, user_id: 'ada', in_use_by: null, is_deleted: false }]);
    expect((await http.get('/v1/disks', 'eve')).body.disks).toEqual([]);
    expect((await http.get('/v1/operations/none')).body).toMatchObject({ status: 404, code: 'GPU_OPERATION_UNKNOWN' });
  });

  it('takes over a decent request id and makes its own otherwise', async () => {
    const ask = (id: string) => http.app.inject({ url: '/', headers: { 'x-request-id': id } });
    expect((await ask('trace-1.a')).headers['x-request-id']).toBe('trace-1.a');
    expect((await ask('a b')).headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('serves a real socket', async () => {
    await http.app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = http.app.server.address() as AddressInfo;
    const base = `http://127.0.0.1:${port}`;
    const made = await fetch(`${base}/v1/reservations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(await http.as('zoe')) },
      body: JSON.stringify({ gpu_type: 't4', duration_hours: 0.5, no_persistent_disk: true }),
    });
    expect(made.status).toBe(202);
    const { id } = (await made.json()) as { id: string };
    const shown = await fetch(`${base}/v1/reservations/${id}`, { headers: await http.as('zoe') });
    expect(((await shown.json()) as Json).user_id).toBe('zoe');
    // A body that never comes must not hold a connection for ever; a broken one must not end the process.
    const zoe = await http.as('zoe');
    await new Promise<void>((resolve) => {
      const request = httpRequest(`${base}/v1/reservations`, {
        method: 'POST',
        headers: { 'content-length': '100', 'content-type': 'application/json', ...zoe },
      });
      request.on('error', () => resolve());
      request.write('{"a"', () => request.destroy());
    });
    expect((await fetch(`${base}/health/live`)).status).toBe(200);
  });
});
