import { randomUUID } from 'node:crypto';
import { createServer, type Server } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Program } from '../crash/support/process.ts';
import { TestKeys } from '../support/api-keys.ts';
import { Scene, SERVICE } from '../crash/support/scene.ts';
import { PATIENCE_MS } from '../support/patience.ts';

let scene: Scene;
let keys: TestKeys;
let api: { program: Program; url: string };
let processor: { program: Program; url: string };
beforeAll(async () => {
  scene = await Scene.start();
  keys = new TestKeys(scene.db);
  processor = await started({ GPU_DEV_ROLE: 'processor' });
  api = await started({ GPU_DEV_ROLE: 'api' });
});
afterAll(() => scene?.stop());

async function started(environment: NodeJS.ProcessEnv) {
  const program = scene.program(SERVICE, environment);
  const ready = await program.ready();
  if (ready === null) throw new Error(program.log);
  return { program, url: `http://127.0.0.1:${ready['port']}` };
}

async function reserve(user: string): Promise<{ id: string; state: string }> {
  const answer = await fetch(`${api.url}/v1/reservations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(await keys.as(user)) },
    body: JSON.stringify({ gpu_type: 'h100', gpu_count: 1, duration_hours: 1, no_persistent_disk: true }),
  });
  expect(answer.status).toBe(202);
  return (await answer.json()) as { id: string; state: string };
}

it('what a process of the role api accepts, one of the role processor does', async () => {
  const { id } = await reserve('ada');
  const row = await scene.until('it runs', async () => {
    const found = await scene.reservation(id);
    return found?.['status'] === 'running' && found;
  });
  expect(row['pod_name']).toMatch(id);
  const seen = (await (await fetch(`${api.url}/v1/reservations/${id}`, { headers: await keys.as('ada') })).json()) as {
    state: string;
  };
  expect(seen.state).toBe('running');
});

it('a request is taken while no processor runs, and done when one comes back', async () => {
  await processor.program.kill();
  const { id, state } = await reserve('grace');
  expect(['queued', 'provisioning']).toContain(state);
  const { rows } = await scene.db.query<{ n: number }>(
    `select count(*)::int as n from effects where status = 'pending' and lease_token is not null and lease_until > now()`,
  );
  expect(rows).toEqual([{ n: 0 }]);
  processor = await started({ GPU_DEV_ROLE: 'processor' });
  await scene.until('it runs', async () => (await scene.reservation(id))?.['status'] === 'running');
});

it('a processor answers for its health and its numbers, and for nothing else', async () => {
  const statusOf = async (url: string) => (await fetch(url)).status;
  for (const path of ['/health/live', '/health/ready', '/metrics']) {
    await scene.until(`${path} answers`, async () => (await statusOf(processor.url + path)) === 200);
    expect(await statusOf(api.url + path)).toBe(200);
  }
  for (const path of ['/', '/v1/reservations', '/v1/gpus', '/openapi.json']) {
    expect(await statusOf(processor.url + path), path).toBe(404);
    expect(await statusOf(api.url + path), path).toBe(path.startsWith('/v1/') ? 401 : 200);
  }
});

it('an unknown role, a Postgres that refuses and one that is silent end the start soon, with words', async () => {
  const silent: Server = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const port = String((silent.address() as { port: number }).port);
  try {
    const fails = async (environment: NodeJS.ProcessEnv) => {
      const program = scene.program(SERVICE, environment);
      const began = performance.now();
      const { code } = await program.exited();
      expect(code).toBe(1);
      // Ten seconds is the promise; four programs start here at the same time as others' tests run.
      expect(performance.now() - began).toBeLessThan(PATIENCE_MS);
      return program.log;
    };
    const [role, refused, password, mute] = await Promise.all([
      fails({ GPU_DEV_ROLE: 'robot' }),
      fails({ POSTGRES_PORT: '1' }),
      fails({ POSTGRES_USER: `nobody_${randomUUID().slice(0, 8)}`, POSTGRES_PASSWORD: 'opensesame' }),
      fails({ POSTGRES_PORT: port }),
    ]);
    expect(role).toMatch(/GPU_DEV_ROLE.*"api"\|"processor"\|"all"/);
    expect(refused).toMatch(/^Postgres at \S+:1 does not serve \S+ with the database \S+: connect ECONNREFUSED/);
    expect(password).toMatch(/^Postgres at .* password authentication failed/);
    expect(password).not.toContain('opensesame');
    expect(mute).toMatch(/^Postgres at .*:\d+ does not serve .*(timeout|timed out|terminated)/i);
    for (const log of [role, refused, password, mute]) expect(log.split('\n')).toHaveLength(1);
  } finally {
    silent.close();
  }
});
