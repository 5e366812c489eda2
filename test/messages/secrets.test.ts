import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startWorld, type World } from '../support/world.ts';
import { ARCHIVED, type Body, fresh } from './support.ts';

const CANARY = 'canary-9d1f77c2';

let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { t4: 1 } });
});
afterAll(async () => {
  await world?.stop();
});

/** Tables of ours in which some row holds the text, but for the one that is made for secrets. */
async function tablesWith(text: string): Promise<string[]> {
  const { rows } = await world.db.query<{ name: string }>(
    `select table_schema || '.' || table_name as name from information_schema.tables
      where table_type = 'BASE TABLE' and (table_schema = 'public' or (table_schema = 'pgmq' and table_name like 'q\\_%'))
        and query_to_xml(format('select * from %I.%I', table_schema, table_name), false, false, '')::text like '%' || $1 || '%'
      order by 1`,
    [text],
  );
  return rows.map((row) => row.name);
}

describe('a secret value of a request', () => {
  it('stands in the table of secrets and in no other, in no error, and in no pod', async () => {
    const body = fresh('create-api', {
      gpu_type: 't4',
      jupyter_enabled: true,
      env_vars: { HF_TOKEN: `${CANARY}-env`, AWS_SECRET_ACCESS_KEY: `${CANARY}-aws` },
      api_key: `${CANARY}-extra`,
      nested: { password: `${CANARY}-deep` },
    });
    // The first tries to make the server's Secrets fail, so that errors are written as well.
    await world.simulate('/faults', { kind: 'error', status: 500, verb: 'POST', path: '/secrets', count: 3 });
    await world.send(body);
    await world.reaches(body.reservation_id, 'running');
    await world.until('Jupyter is on', async () => (await world.reservation(body.reservation_id))?.['jupyter_state'] === 'on');
    await world.send({
      ...fresh('extend'),
      reservation_id: body.reservation_id,
      user_id: body.user_id,
      env_vars: { A: `${CANARY}-event` },
    });
    await world.until('it is extended', async () => (await world.reservation(body.reservation_id))?.['total_hours'] === 6);

    const { rows } = await world.db.query<{ token: string; value: string }>(
      `select value ->> 'jupyterToken' as token, value::text as value from secrets where secret_ref = $1`,
      [body.reservation_id],
    );
    const token = rows[0]!.token;
    expect(rows[0]!.value).toContain(`${CANARY}-env`);
    expect(token).toMatch(/^[0-9a-f]{64}$/);
    expect(world.errors.length).toBeGreaterThan(0);
    for (const secret of [CANARY, token]) {
      expect(await tablesWith(secret)).toEqual(['public.secrets']);
      expect(inspect(world.errors, { depth: 20, maxStringLength: null })).not.toContain(secret);
      const pods = await world.client.core.listNamespacedPod({ namespace: 'gpu-dev' });
      expect(JSON.stringify(pods.items)).not.toContain(secret);
      const events = await world.client.core.listNamespacedEvent({ namespace: 'gpu-dev' });
      expect(JSON.stringify(events.items)).not.toContain(secret);
    }
    const pods = await world.client.core.listNamespacedPod({ namespace: 'gpu-dev' });
    const env = await world.client.core.readNamespacedSecret({
      namespace: 'gpu-dev',
      name: `${pods.items[0]!.metadata!.name}-env`,
    });
    expect(Buffer.from(env.data!['HF_TOKEN']!, 'base64').toString()).toBe(`${CANARY}-env`);
  });

  it('in a field that we do not know is masked wherever its key may name a secret, and long texts are cut', async () => {
    const body = fresh('create-api', {
      gpu_type: 't4',
      disk_name: null,
      env: { WANDB_KEY: `${CANARY}-a`, LIST: [`${CANARY}-b`, { deep: `${CANARY}-c` }] },
      envVars: { PGPASS: `${CANARY}-d` },
      credentials: [`${CANARY}-e`],
      nested: { DB_PASS: `${CANARY}-f`, list: [{ Authorization: `${CANARY}-g` }], sshKey: 5 },
      payload: JSON.stringify({ env_vars: { HF_TOKEN: `${CANARY}-h` } }),
      twice: JSON.stringify(JSON.stringify({ a: `${CANARY}-i` })),
      note: `${'n'.repeat(250)}${CANARY}-j`,
      remark: `use gpudev_${'k'.repeat(43)} for it`,
      team: 'vision',
    });
    await world.send(body);
    await world.reaches(body.reservation_id, 'running');
    expect(await tablesWith(`${CANARY}-`)).not.toContain('public.history');
    const { rows } = await world.db.query<{ extra: Body }>(
      `select snapshot #> '{context,request,extra}' as extra from actors where actor = $1`,
      [`reservation/${body.reservation_id}`],
    );
    expect(rows[0]!.extra).toMatchObject({
      env: { WANDB_KEY: '[secret]', LIST: ['[secret]', { deep: '[secret]' }] },
      credentials: ['[secret]'],
      nested: { DB_PASS: '[secret]', list: [{ Authorization: '[secret]' }], sshKey: '[secret]' },
      team: 'vision',
      remark: 'use [secret] for it',
    });
    expect(rows[0]!.extra['note']).toHaveLength(201);
    expect(JSON.stringify(rows[0]!.extra)).not.toContain(CANARY);
  });

  it('in a message that is no object, or was encoded twice, is told of by its length only', async () => {
    const text = JSON.stringify({ action: 'create_reservation', env_vars: { TOKEN: `${CANARY}-twice` } });
    const wrong: [unknown, unknown][] = [
      [text, `[string of ${text.length} characters]`],
      [
        [`${CANARY}-list`, 7],
        [`[string of ${CANARY.length + 5} characters]`, '[number]'],
      ],
      [{ action: { token: `${CANARY}-action` } }, { action: { token: '[secret]' } }],
    ];
    for (const [body, shown] of wrong) {
      const msgId = await world.send(body);
      const letter = await world.until('it is a dead letter', async () => {
        const { rows } = await world.db.query<Body>('select * from dead_letters where msg_id = $1', [msgId]);
        return rows[0] ?? null;
      });
      expect(letter.body).toEqual(shown);
      expect(JSON.stringify(letter)).not.toContain(CANARY);
    }
  });

  it('in a message that is refused is masked in its dead letter; only the archive of the queue keeps the original', async () => {
    const wrong = [
      fresh('create-api', { gpu_count: 3, env_vars: { TOKEN: `${CANARY}-refused` } }),
      fresh('create-api', { env_vars: { TOKEN: { deep: `${CANARY}-refused` } } }),
      fresh('create-api', { env_vars: `${CANARY}-refused` }),
      { action: 'nonsense', env_vars: { TOKEN: `${CANARY}-refused` }, jupyter_token: `${CANARY}-refused` },
    ];
    for (const body of wrong) {
      const msgId = await world.send(body);
      const letter = await world.until('it is a dead letter', async () => {
        const { rows } = await world.db.query<Body>('select * from dead_letters where msg_id = $1', [msgId]);
        return rows[0] ?? null;
      });
      expect(JSON.stringify(letter.body)).toContain('[secret]');
      expect((await world.db.query(ARCHIVED['gpu_reservations']!, [msgId])).rowCount).toBe(1);
    }
    expect(await tablesWith(`${CANARY}-refused`)).toEqual([]);
  });
});
