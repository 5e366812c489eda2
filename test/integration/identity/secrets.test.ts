import { afterAll, beforeAll, expect, it } from 'vitest';
import { signIdentityRequest } from '../../../src/identity/sign.ts';
import { Scene, SERVICE } from '../../crash/support/scene.ts';
import type { Program } from '../../crash/support/process.ts';
import { arnOf, identity, says, type StsStub, startSts } from './sts-stub.ts';

const CANARY = 'canary-e1d07b';
const KEYS = {
  aws_access_key_id: 'ASIAEXAMPLEEXAMPLE12',
  aws_secret_access_key: `${CANARY}-secret-${'s'.repeat(30)}`,
  aws_session_token: `${CANARY}-session-${'t'.repeat(120)}`,
};
const ARN = arnOf('123456789012', 'SSOCloudDevGpuReservation', 'ada');

let scene: Scene;
let sts: StsStub;
let service: Program;
let url: string;
/** All that came out, besides the log. */
const said: string[] = [];
beforeAll(async () => {
  [scene, sts] = await Promise.all([Scene.start(), startSts()]);
  service = scene.program(SERVICE, {
    LOG_LEVEL: 'trace',
    GPU_DEV_LOCAL: 'true',
    GPU_DEV_ADMINS: 'root',
    GPU_DEV_SERVER_ID: 'gpu-dev.example.com',
    ALLOWED_AWS_ACCOUNTS: '123456789012',
    AWS_ENDPOINT_URL_STS: sts.url,
  });
  const ready = await service.ready();
  if (ready === null) throw new Error(service.log);
  url = `http://127.0.0.1:${ready['port']}`;
});
afterAll(async () => {
  await scene?.stop();
  await sts?.stop();
});

async function ask(method: string, path: string, key: string | null, body?: unknown): Promise<Record<string, unknown>> {
  const response = await fetch(url + path, {
    method,
    headers: {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const given = text.startsWith('{') ? (JSON.parse(text) as Record<string, unknown>) : {};
  // A login tells its key to the one who logged in: that is what it is for.
  const { api_key: _, ...rest } = given;
  said.push('api_key' in given ? JSON.stringify(rest) : text);
  return given;
}

it('T7: a whole run at the most talkative level says no secret: not in the log, in no answer, in no table, in no number', async () => {
  sts.answer = says(identity('123456789012', ARN));
  const byKeys = await ask('POST', '/v1/auth/aws-login', null, KEYS);
  const credentials = {
    accessKeyId: KEYS.aws_access_key_id,
    secretAccessKey: KEYS.aws_secret_access_key,
    sessionToken: KEYS.aws_session_token,
  };
  const request = await signIdentityRequest(credentials, {
    host: sts.host,
    region: 'us-east-1',
    serverId: 'gpu-dev.example.com',
  });
  const signed = await ask('POST', '/v1/auth/aws-login', null, request);
  const root = await ask('POST', '/v1/auth/local-login', null, { username: 'root' });
  const key = String(byKeys['api_key']);
  expect([byKeys['username'], signed['username'], root['username']]).toEqual(['ada', 'ada', 'root']);
  const rotated = await ask('POST', '/v1/keys/rotate', key, {});

  const made = await ask('POST', '/v1/reservations', key, {
    gpu_type: 'h100',
    duration_hours: 1,
    no_persistent_disk: true,
    jupyter_enabled: true,
    env_vars: { HF_TOKEN: `${CANARY}-env` },
    password: `${CANARY}-password`,
  });
  const id = String(made['id']);
  await scene.reaches(id, 'running');
  const { rows } = await scene.db.query<{ token: string }>(
    `select value ->> 'jupyterToken' as token from secrets where secret_ref = $1`,
    [id],
  );

  // What goes wrong is where secrets are told most easily.
  sts.answer = says(`<Error><Code>SignatureDoesNotMatch</Code><Message>${CANARY}-session</Message></Error>`, 'text/xml', 403);
  await ask('POST', '/v1/auth/aws-login', null, KEYS);
  sts.answer = (response) => void response.destroy();
  await ask('POST', '/v1/auth/aws-login', null, KEYS);
  await ask('POST', '/v1/auth/aws-login', null, { ...KEYS, aws_access_key_id: `${CANARY}-id` });
  await ask('POST', '/v1/auth/aws-login', null, { ...KEYS, aws_secret_access_key: `${CANARY} with spaces` });
  await ask('POST', '/v1/auth/aws-login', null, {
    ...request,
    headers: { ...request.headers, authorization: `${CANARY}-authorization` },
  });
  await ask('GET', '/v1/me', `gpudev_${CANARY}${'A'.repeat(30)}`);
  await ask('GET', '/v1/me', `${CANARY}-key`);
  await scene.send({ action: 'create_reservation', user_id: 'ada', gpu_count: 3, env_vars: { TOKEN: `${CANARY}-queue` } });
  await scene.db.query('alter table api_users rename to api_users_hidden');
  await ask('POST', '/v1/auth/local-login', null, { username: 'root' });
  await scene.db.query('alter table api_users_hidden rename to api_users');

  for (const path of [`/v1/reservations/${id}`, `/v1/reservations/${id}/history`, '/v1/keys', '/v1/me'])
    await ask('GET', path, key);
  for (const path of ['/v1/admin/audit', '/v1/dead-letters', '/v1/users']) await ask('GET', path, String(root['api_key']));
  await ask('GET', '/metrics', null);
  service.signal('SIGTERM');
  await service.exited();

  const { rows: tables } = await scene.db.query<{ name: string; text: string }>(
    `select table_name as name, query_to_xml(format('select * from %I', table_name), false, false, '')::text as text
       from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE' and table_name <> 'secrets'`,
  );
  expect(tables.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['api_keys', 'audit_log', 'history', 'dead_letters', 'effects']),
  );
  expect(service.log).toContain('/v1/auth/aws-login');
  const secrets = [CANARY, rows[0]!.token, request.headers['authorization']!.slice(-64)];
  const issued = [byKeys, signed, root, rotated].map((login) => String(login['api_key']));
  for (const secret of [...secrets, ...issued, ...issued.map((one) => one.slice(13))]) {
    expect(secret.length).toBeGreaterThan(10);
    expect(service.log.split('\n').filter((line) => line.includes(secret))).toEqual([]);
    expect(said.filter((text) => text.includes(secret))).toEqual([]);
    expect(tables.filter(({ text }) => text.includes(secret)).map(({ name }) => name)).toEqual([]);
  }
});
