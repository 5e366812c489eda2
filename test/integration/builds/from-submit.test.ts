import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AddressInfo } from 'node:net';
import { run } from '../../../src/cli/program.ts';
import { JobBuilder } from '../../../src/providers/local/builds.ts';
import { type HttpWorld, startHttp } from '../http/support.ts';
import { contextOf } from './support.ts';

let http: HttpWorld;
/** How the pods of builds behave. */
const annotations: Record<string, string> = {};

beforeAll(async () => {
  http = await startHttp({
    fleet: { t4: 1, 'cpu-x86': 1 },
    ports: (ports) => ({
      ...ports,
      builder: {
        build: (request) => new JobBuilder({ client: http.world.client, repository: 'r.test/dev', annotations }).build(request),
        cancel: (build) => new JobBuilder({ client: http.world.client }).cancel(build),
      },
    }),
  });
});
afterAll(() => http?.stop());

async function submit(files: Record<string, string>, user = 'ada'): Promise<string> {
  const body = { gpu_type: 't4', gpu_count: 1, duration_hours: 1, no_persistent_disk: true, dockerfile: contextOf(files) };
  return (await http.post('/v1/reservations', body, { user })).body.id;
}
const jobs = async () =>
  (await http.world.client.batch.listNamespacedJob({ namespace: 'gpu-dev' })).items.map(({ metadata }) => metadata!);
const log = async (id: string, after = 0) => (await http.get(`/v1/reservations/${id}/build-log?after=${after}`)).body;

describe('an image that must be built', () => {
  it('B3: is built from submit by one Job for all who ask for the same content, while none of them holds a GPU, and told step by step', async () => {
    const { world } = http;
    Object.assign(annotations, {
      'simulation.gpu-dev/job-outcome': 'hang',
      'simulation.gpu-dev/log': '#7 [2/9] RUN install --token=hunter2secret',
    });
    const first = await submit({ Dockerfile: 'FROM scratch', a: '1' });
    const second = await submit({ a: '1', Dockerfile: 'FROM scratch' }, 'bob');
    await world.reaches(first, 'building');
    await world.reaches(second, 'building');
    const told = await world.until('the step is told', async () => {
      const { body } = await http.get(`/v1/reservations/${second}`);
      return /step 2 of 9/.test(body.detail) && body;
    });
    expect(told.detail).toBe('Building the image, step 2 of 9: RUN install --token=[secret]');
    expect((await world.db.query('select 1 from gpu_slots where reservation_id is not null', [])).rowCount).toBe(0);
    expect((await world.db.query('select 1 from capacity_requests', [])).rowCount).toBe(0);
    expect(await jobs()).toHaveLength(1);

    const written = await log(first);
    expect(written).toMatchObject({
      state: 'building',
      lines: expect.arrayContaining([expect.objectContaining({ attempt: 1 })]),
    });
    expect(written.lines.map(({ line }: { line: string }) => line)).toContain('#7 [2/9] RUN install --token=[secret]');
    expect((await log(first, written.next_after)).lines).toEqual([]);
    expect(JSON.stringify((await world.db.query('select line from build_lines', [])).rows)).not.toContain('hunter2secret');
    const { rows } = await world.db.query<{ n: number }>(
      `select count(*)::int as n from history where actor like 'image/%' and event->>'type' = 'build.progress'`,
      [],
    );
    expect(rows[0]!.n).toBeLessThanOrEqual(5);

    // Whoever leaves takes nothing from the other; the last one takes the Job along.
    await world.send({ action: 'cancel', reservation_id: first, user_id: 'ada' });
    await world.reaches(first, 'cancelled');
    expect(await jobs()).toHaveLength(1);
    await world.send({ action: 'cancel', reservation_id: second, user_id: 'bob' });
    await world.reaches(second, 'cancelled');
    await world.until('nothing of it is left', async () => (await jobs()).length === 0);

    // The next attempt is another Job, under another number.
    for (const name of Object.keys(annotations)) delete annotations[name];
    const third = await submit({ a: '1', Dockerfile: 'FROM scratch' });
    const running = await world.reaches(third, 'running');
    expect(running['image']).toMatch(/^r\.test\/dev:[0-9a-f]{64}@sha256:[0-9a-f]{64}$/);
    expect((await jobs()).map(({ name }) => name)).toEqual([expect.stringMatching(/^build-[0-9a-f]{40}-2$/)]);
    const fourth = await submit({ Dockerfile: 'FROM scratch', a: '1' });
    await world.until(
      'it waits for capacity and for no build',
      async () =>
        (await world.reservation(fourth))?.['substate'] === 'capacity' ||
        (await world.reservation(fourth))?.['status'] === 'running',
    );
    expect(await jobs()).toHaveLength(1);
  });

  it('that cannot be built fails its reservation with the words of the build, and no secret among them', async () => {
    const { world } = http;
    Object.assign(annotations, {
      'simulation.gpu-dev/job-outcome': 'fail',
      'simulation.gpu-dev/log': '#9 ERROR: pip could not find torch==99, index https://user:pa55word@pypi.test',
    });
    const id = await submit({ Dockerfile: 'FROM broken' });
    const failed = await world.reaches(id, 'failed');
    expect(failed['failure_reason']).toMatch(/torch==99/);
    expect(failed['failure_reason']).not.toContain('pa55word');
    expect((await log(id)).state).toBe('failed');
    await http.app.listen({ host: '127.0.0.1', port: 0 });
    const out: string[] = [];
    const exit = await run(['build-log', id, '--follow'], {
      environment: { GPU_DEV_URL: `http://127.0.0.1:${(http.app.server.address() as AddressInfo).port}`, GPU_DEV_USER: 'ada' },
      directory: '/nowhere',
      out: { write: (text) => out.push(text) },
      err: { write: (text) => out.push(text) },
      interrupted: new AbortController().signal,
    });
    expect(exit).toBe(0);
    expect(out.join('')).toMatch(
      /^simulated container build started .*\n#9 ERROR: pip could not find torch==99, index https:\/\/\[secret\]@pypi.test\n/,
    );
    const { rows } = await world.db.query(`select event from history where event::text like '%pa55word%'`, []);
    expect(rows).toEqual([]);
  });

  it('has no log if nothing is built', async () => {
    const { body } = await http.post(
      '/v1/reservations',
      { gpu_type: 't4', gpu_count: 1, duration_hours: 1, no_persistent_disk: true },
      { user: 'eve' },
    );
    expect(await log(body.id)).toEqual({ id: body.id, state: null, lines: [], next_after: 0 });
  });
});
