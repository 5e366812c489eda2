import { AssumeRoleCommand, STSClient } from '@aws-sdk/client-sts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_IDENTITY } from '../../../src/identity/settings.ts';
import { type AwsCredentials, signIdentityRequest } from '../../../src/identity/sign.ts';
import { startMoto } from '../../support/moto.ts';
import { type HttpWorld, type Json, startHttp } from '../http/support.ts';
import { arnOf, identity, identityXml, says, type StsStub, startSts } from './sts-stub.ts';

const ROLE = 'SSOCloudDevGpuReservation';
const HOME = '123456789012';
const OTHER = '210987654321';
const CANARY = 'canary-5b1ffa2d';
const KEYS = {
  accessKeyId: 'ASIAEXAMPLEEXAMPLE12',
  secretAccessKey: `${CANARY}${'s'.repeat(30)}`,
  sessionToken: `${CANARY}${'t'.repeat(120)}`,
};

const moto = await startMoto();
let http: HttpWorld;
let sts: StsStub;
let aws: (typeof DEFAULT_IDENTITY)['aws'];
beforeAll(async () => {
  sts = await startSts();
  // The same object all along, so that a test may change a setting.
  aws = { ...DEFAULT_IDENTITY.aws, accounts: [HOME, OTHER], endpoint: sts.url, serverIds: ['gpu-dev.example.com'] };
  http = await startHttp(
    { fleet: { t4: 1 } },
    { identity: { ...DEFAULT_IDENTITY, admins: ['operator'], aws }, trustedProxies: ['192.0.2.1'] },
  );
});
afterAll(async () => {
  await http?.stop();
  await sts?.stop();
});

const sign = (credentials: AwsCredentials = KEYS, serverId = 'gpu-dev.example.com') =>
  signIdentityRequest(credentials, { host: sts.host, region: 'us-east-1', serverId });
const login = (body: unknown, headers: Record<string, string> = {}) =>
  http.post('/v1/auth/aws-login', body, { user: null, headers });
const keys = {
  aws_access_key_id: KEYS.accessKeyId,
  aws_secret_access_key: KEYS.secretAccessKey,
  aws_session_token: KEYS.sessionToken,
};
const as = (key: string) => ({ authorization: `Bearer ${key}` });
async function enters(account: string, session: string): Promise<Json> {
  sts.answer = says(identity(account, arnOf(account, ROLE, session)));
  const { status, body } = await login(await sign());
  expect(body, String(status)).toMatchObject({ ttl_hours: 2 });
  return body;
}

describe('a login with AWS', () => {
  it('by a signed request gives a key that works; AWS is sent that request and nothing else, and no secret', async () => {
    sts.answer = says(identity(HOME, arnOf(HOME, ROLE, 'ada@example.com')));
    const before = Date.now();
    const { status, body } = await login(await sign());
    expect(status).toBe(200);
    expect(body).toEqual({
      api_key: expect.stringMatching(/^gpudev_[\w-]{43}$/),
      key_prefix: body.api_key.slice(0, 13),
      user_id: expect.any(Number),
      username: 'ada@example.com',
      aws_arn: arnOf(HOME, ROLE, 'ada@example.com'),
      expires_at: expect.any(String),
      ttl_hours: 2,
      scopes: ['read', 'reserve', 'disks'],
    });
    expect(Math.abs(Date.parse(body.expires_at) - before - 7_200_000)).toBeLessThan(60_000);
    const sent = sts.requests.at(-1)!;
    expect(sent).toMatchObject({ method: 'POST', url: '/', body: 'Action=GetCallerIdentity&Version=2011-06-15' });
    expect(sent.headers).toMatchObject({
      host: sts.host,
      'x-gpu-dev-server-id': 'gpu-dev.example.com',
      accept: 'application/json',
    });
    expect(JSON.stringify(sent)).not.toContain(KEYS.secretAccessKey);
    const made = await http.post(
      '/v1/reservations',
      { gpu_type: 't4', duration_hours: 0.5, no_persistent_disk: true },
      { user: null, headers: as(body.api_key) },
    );
    expect([made.status, made.body.user_id]).toEqual([202, 'ada@example.com']);
  });

  it('by the credentials themselves gives the same; what AWS answers in XML is understood as well', async () => {
    sts.answer = says(identityXml(HOME, arnOf(HOME, ROLE, 'bob')), 'text/xml');
    const { status, body } = await login(keys);
    expect([status, body.username, body.aws_arn]).toEqual([200, 'bob', arnOf(HOME, ROLE, 'bob')]);
    expect(sts.requests.at(-1)!.headers['x-amz-security-token']).toBe(KEYS.sessionToken);
    expect(JSON.stringify(sts.requests.at(-1))).not.toContain(KEYS.secretAccessKey);
  });

  it('T3: checks the account as well as the role, both exactly', async () => {
    const cases: [string, string, string][] = [
      ['999999999999', arnOf('999999999999', ROLE, 'eve'), 'GPU_ACCOUNT_NOT_ALLOWED'],
      [HOME, arnOf('999999999999', ROLE, 'eve'), 'GPU_ACCOUNT_NOT_ALLOWED'],
      [HOME, arnOf(HOME, `${ROLE}2`, 'eve'), 'GPU_ROLE_NOT_ALLOWED'],
      [HOME, arnOf(HOME, ROLE.toLowerCase(), 'eve'), 'GPU_ROLE_NOT_ALLOWED'],
      [HOME, arnOf(HOME, `AWSReservedSSO_${ROLE}_0123456789abcdef`, 'eve'), 'GPU_ROLE_NOT_ALLOWED'],
      [HOME, arnOf(HOME, `x/${ROLE}`, 'eve'), 'GPU_ROLE_NOT_ALLOWED'],
      [HOME, `arn:aws:iam::${HOME}:user/${ROLE}`, 'GPU_ROLE_NOT_ALLOWED'],
      [HOME, `arn:aws:iam::${HOME}:root`, 'GPU_ROLE_NOT_ALLOWED'],
      [HOME, arnOf(HOME, ROLE, 'eve/ada'), 'GPU_ROLE_NOT_ALLOWED'],
      [HOME, arnOf(HOME, ROLE, 'eve=1'), 'GPU_LOGIN_REFUSED'],
      [HOME, arnOf(HOME, ROLE, `ada@${OTHER}`), 'GPU_LOGIN_REFUSED'],
    ];
    for (const [account, arn, code] of cases) {
      sts.answer = says(identity(account, arn));
      for (const body of [await sign(), keys]) expect((await login(body)).body, arn).toMatchObject({ code });
    }
    const { rows } = await http.world.db.query(`select 1 from api_users where username like 'eve%'`);
    expect(rows).toEqual([]);
  });

  it('of the same session name in another account is another user, who owns other things', async () => {
    const [home, other] = [await enters(HOME, 'grace'), await enters(OTHER, 'grace')];
    expect([home.username, other.username]).toEqual(['grace', `grace@${OTHER}`]);
    expect(home.user_id).not.toBe(other.user_id);
    expect((await enters(HOME, 'grace')).user_id).toBe(home.user_id);
    const wish = { gpu_type: 't4', duration_hours: 0.5, no_persistent_disk: true };
    const made = await http.post('/v1/reservations', wish, { user: null, headers: as(home.api_key) });
    const path = `/v1/reservations/${made.body.id}`;
    const seen = async (key: string) => (await http.app.inject({ url: path, headers: as(key) })).statusCode;
    expect([await seen(home.api_key), await seen(other.api_key)]).toEqual([200, 404]);
  });

  it('T4: leaves a disabled user disabled, and ends the keys there are', async () => {
    const { api_key: key, user_id: id } = await enters(HOME, 'henry');
    const change = async (body: unknown) =>
      http.app.inject({
        method: 'PATCH',
        url: `/v1/users/${id}`,
        headers: await http.as('operator', { admin: true }),
        payload: body as object,
      });
    expect((await change({ is_active: false })).statusCode).toBe(200);
    const me = async () => (await http.app.inject({ url: '/v1/me', headers: as(key) })).json();
    expect(await me()).toMatchObject({ status: 403, code: 'GPU_USER_DISABLED' });
    expect((await login(await sign())).body).toMatchObject({ status: 403, code: 'GPU_USER_DISABLED' });
    expect((await login(keys)).body).toMatchObject({ status: 403, code: 'GPU_USER_DISABLED' });
    expect(await me()).toMatchObject({ code: 'GPU_USER_DISABLED' });
    expect((await change({ is_active: true })).statusCode).toBe(200);
    expect((await me()).username).toBe('henry');
  });

  it('takes a signed request once', async () => {
    sts.answer = says(identity(HOME, arnOf(HOME, ROLE, 'ida')));
    const request = await sign();
    const answers = await Promise.all([login(request), login(request), login(request)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 401, 401]);
    expect((await login(request)).body).toMatchObject({ code: 'GPU_LOGIN_REPLAYED' });
  });

  it('R5: is the same login when it is signed anew under the same key, and not when it is sent as it was', async () => {
    sts.answer = says(identity(HOME, arnOf(HOME, ROLE, 'kim')));
    const once = { 'idempotency-key': 'from-my-laptop' };
    const request = await sign();
    const lost = await login(request, once);
    const works = async (key: string) => (await http.app.inject({ url: '/v1/me', headers: as(key) })).statusCode === 200;
    expect(await works(lost.body.api_key)).toBe(true);
    expect(await login(request, once)).toMatchObject({ status: 401, body: { code: 'GPU_LOGIN_REPLAYED' } });
    expect(await works(lost.body.api_key)).toBe(true);
    const got = await login(await sign(), once);
    expect(got.status).toBe(200);
    expect([await works(lost.body.api_key), await works(got.body.api_key)]).toEqual([false, true]);
  });

  it('refuses a request that was made for another service', async () => {
    const asked = sts.requests.length;
    expect((await login(await sign(KEYS, 'vault.example.com'))).body).toMatchObject({ code: 'GPU_LOGIN_REFUSED' });
    const { [`x-gpu-dev-server-id`]: _, ...headers } = (await sign()).headers;
    expect((await login({ ...(await sign()), headers })).body).toMatchObject({ code: 'GPU_LOGIN_REFUSED' });
    expect(sts.requests).toHaveLength(asked);
  });

  it('takes secrets over TLS or on the machine itself only, and not at all where that is switched off', async () => {
    const from = (headers: Record<string, string>, remoteAddress: string) =>
      http.app.inject({ method: 'POST', url: '/v1/auth/aws-login', remoteAddress, headers, payload: keys });
    sts.answer = says(identity(HOME, arnOf(HOME, ROLE, 'jane')));
    expect((await from({}, '10.1.2.3')).json()).toMatchObject({ status: 403, code: 'GPU_LOGIN_UNSAFE' });
    expect((await from({ 'x-forwarded-proto': 'https' }, '10.1.2.3')).json()).toMatchObject({ code: 'GPU_LOGIN_UNSAFE' });
    expect((await from({ 'x-forwarded-for': '10.1.2.3' }, '127.0.0.1')).json()).toMatchObject({ code: 'GPU_LOGIN_UNSAFE' });
    expect((await from({ 'x-forwarded-proto': 'https', 'x-forwarded-for': '10.9.9.9' }, '192.0.2.1')).statusCode).toBe(200);
    expect((await from({}, '127.0.0.1')).statusCode).toBe(200);
    aws.acceptKeys = false;
    expect((await from({}, '127.0.0.1')).json()).toMatchObject({ status: 403, code: 'GPU_LOGIN_OFF' });
    expect((await login(await sign())).status).toBe(200);
    aws.acceptKeys = true;
  });

  it('is off, and says so, while no account is allowed', async () => {
    const accounts = aws.accounts;
    aws.accounts = [];
    for (const body of [keys, await sign()]) {
      const answer = (await login(body)).body;
      expect(answer).toMatchObject({ status: 403, code: 'GPU_LOGIN_OFF' });
      expect(answer.detail).toContain('ALLOWED_AWS_ACCOUNTS');
    }
    expect((await http.get('/v1/auth/aws-login', null)).body.enabled).toBe(false);
    aws.accounts = accounts;
  });

  it.each<[string, StsStub['answer'], number]>([
    ['refuses', says('<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>', 'text/xml', 403), 401],
    ['is broken', says('oops', 'text/html', 500), 503],
    ['redirects', (response) => void response.writeHead(302, { location: '/elsewhere' }).end(), 503],
    [
      'answers without end',
      (response) => void response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":"'.padEnd(100_000, 'x')),
      503,
    ],
    ['hangs up', (response) => void response.destroy(), 503],
    [
      'answers half',
      (response) => response.writeHead(200, { 'content-length': '999' }).write('{', () => response.destroy()),
      503,
    ],
    ['answers JSON as text', says(identity(HOME, arnOf(HOME, ROLE, 'mallory')), 'text/plain'), 503],
    ['answers more than an identity', says(identity(HOME, arnOf(HOME, ROLE, 'mallory')).replace('}}}', '},"Extra":1}}')), 503],
    ['answers two in one', says(identity(HOME, arnOf(HOME, ROLE, 'mallory')).repeat(2)), 503],
    ['answers no account', says(identity('12345', arnOf(HOME, ROLE, 'mallory'))), 503],
    ['answers XML with something before it', says(`<x/>${identityXml(HOME, arnOf(HOME, ROLE, 'mallory'))}`, 'text/xml'), 503],
    [
      'answers XML with two accounts',
      says(
        identityXml(HOME, arnOf(HOME, ROLE, 'mallory'))
          .replace('<UserId>', '<Account>')
          .replace('</UserId>', '</Account>'),
        'text/xml',
      ),
      503,
    ],
    ['answers XML with an entity', says(identityXml(HOME, `${arnOf(HOME, ROLE, 'mal')}&#x61;`), 'text/xml'), 503],
    [
      'answers XML of another namespace',
      says(identityXml(HOME, arnOf(HOME, ROLE, 'mallory')).replace('sts.amazonaws', 'sts.example'), 'text/xml'),
      503,
    ],
  ])('fails, and lets nobody in, when AWS %s', async (_what, answer, status) => {
    sts.answer = answer;
    const said = await login(await sign());
    expect(said.status).toBe(status);
    expect(said.body.code).toBe(status === 401 ? 'GPU_LOGIN_REFUSED' : 'GPU_STS_UNAVAILABLE');
    expect((await http.world.db.query(`select 1 from api_users where username like 'mal%'`)).rows).toEqual([]);
  });

  it('names the field of a body that is wrong, and never repeats a secret', async () => {
    for (const [body, field] of [
      [{ ...keys, aws_secret_access_key: `${CANARY} short` }, 'aws_secret_access_key'],
      [{ ...keys, aws_session_token: CANARY }, 'aws_session_token'],
      [{ aws_access_key_id: KEYS.accessKeyId }, 'aws_secret_access_key'],
      [{ method: 'POST', url: 'x' }, 'headers'],
      [[keys], '(body)'],
    ] as [unknown, string][]) {
      const answer = await login(body);
      expect([answer.status, answer.body.field]).toEqual([400, field]);
      expect(JSON.stringify(answer)).not.toContain(CANARY);
    }
  });
});

describe.skipIf(moto.missing !== '')(`a login against moto ${moto.missing}`, () => {
  it('takes credentials of an assumed role by either body', async () => {
    const client = new STSClient({
      endpoint: moto.url,
      region: 'us-east-1',
      credentials: { accessKeyId: 'AKIAEXAMPLEEXAMPLE12', secretAccessKey: 'x'.repeat(40) },
    });
    const { Credentials: given } = await client.send(
      new AssumeRoleCommand({ RoleArn: `arn:aws:iam::${HOME}:role/${ROLE}`, RoleSessionName: 'kate@example.com' }),
    );
    const credentials = {
      accessKeyId: given!.AccessKeyId!,
      secretAccessKey: given!.SecretAccessKey!,
      sessionToken: given!.SessionToken!,
    };
    aws.endpoint = moto.url;
    const signed = await signIdentityRequest(credentials, {
      host: new URL(moto.url).host,
      region: 'us-east-1',
      serverId: 'gpu-dev.example.com',
    });
    const answers = [
      await login(signed),
      await login({
        aws_access_key_id: credentials.accessKeyId,
        aws_secret_access_key: credentials.secretAccessKey,
        aws_session_token: credentials.sessionToken,
      }),
    ];
    aws.endpoint = sts.url;
    for (const { status, body } of answers) {
      expect([status, body.username, body.aws_arn]).toEqual([200, 'kate@example.com', arnOf(HOME, ROLE, 'kate@example.com')]);
    }
  });
});
