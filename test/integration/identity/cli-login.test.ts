import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hashKey } from '../../../src/identity/api-key.ts';
import { DEFAULT_IDENTITY } from '../../../src/identity/settings.ts';
import { run } from '../../../src/cli/program.ts';
import { type HttpWorld, type Json, startHttp } from '../http/support.ts';
import { arnOf, identity, says, type StsStub, startSts } from './sts-stub.ts';

const SECRET = `canary-6d2c${'s'.repeat(30)}`;
let http: HttpWorld;
let sts: StsStub;
let url: string;
let home: string;
beforeAll(async () => {
  sts = await startSts();
  const aws = { ...DEFAULT_IDENTITY.aws, accounts: ['123456789012'], endpoint: sts.url };
  http = await startHttp({ fleet: { t4: 1 } }, { identity: { ...DEFAULT_IDENTITY, local: true, aws } });
  await http.app.listen({ host: '127.0.0.1', port: 0 });
  url = `http://127.0.0.1:${(http.app.server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  await http?.stop();
  await sts?.stop();
});

// The AWS tools look into the process's own environment.
const AWS = {
  AWS_ACCESS_KEY_ID: 'ASIAEXAMPLEEXAMPLE12',
  AWS_SECRET_ACCESS_KEY: SECRET,
  AWS_SESSION_TOKEN: 't'.repeat(120),
  AWS_EC2_METADATA_DISABLED: 'true',
};
const before = Object.fromEntries(Object.keys(AWS).map((name) => [name, process.env[name]]));
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'gpu-dev-login-'));
  Object.assign(process.env, AWS);
  sts.answer = says(identity('123456789012', arnOf('123456789012', 'SSOCloudDevGpuReservation', 'mia@example.com')));
});
afterEach(() => {
  rmSync(home, { recursive: true });
  for (const [name, value] of Object.entries(before)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});

async function cli(line: string, environment: NodeJS.ProcessEnv = {}) {
  const said = { out: '', err: '' };
  const exit = await run(line.split(' '), {
    environment: { HOME: home, GPU_DEV_URL: url, AWS_ENDPOINT_URL_STS: sts.url, GPU_DEV_USER: 'mia@example.com', ...environment },
    directory: '/nowhere',
    out: { write: (text) => (said.out += text) },
    err: { write: (text) => (said.err += text) },
    interrupted: new AbortController().signal,
  });
  return { exit, ...said };
}
const file = () => join(home, '.gpu-dev', 'credentials');
const kept = (): Json[] => JSON.parse(readFileSync(file(), 'utf8')).keys;

describe('gpu-dev login', () => {
  it('signs with the credentials of the AWS tools, sends no secret, and keeps the key where nobody else can read it', async () => {
    const login = await cli('login');
    expect([login.exit, login.out]).toEqual([
      0,
      expect.stringMatching(
        /^You are mia@example\.com at http:\S+; the key ends in (2 h 00|1 h 59) min\. It is in \S+credentials\.\n$/,
      ),
    ]);
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(statSync(join(home, '.gpu-dev')).mode & 0o777).toBe(0o700);
    expect(kept()).toMatchObject([{ url, user: 'mia@example.com', source: 'aws', api_key: expect.stringMatching(/^gpudev_/) }]);
    expect(JSON.stringify([login, sts.requests, readFileSync(file(), 'utf8')])).not.toContain(SECRET);
    const who = await cli('whoami');
    expect(who.out).toMatch(
      /user +mia@example\.com\nAWS +arn:aws:sts::123456789012:assumed-role\/SSOCloudDevGpuReservation\/mia@example\.com\nkey +gpudev_/,
    );
    expect((await cli('list')).out).toBe('mia@example.com has no live reservation.\n');
  });

  it('signs for nobody but AWS, and for the name by which the service is called', async () => {
    const refused = await cli('login', { AWS_ENDPOINT_URL_STS: '' });
    expect([refused.exit, refused.err]).toEqual([4, expect.stringMatching(/which is not AWS\. Nothing was sent/)]);
    const asked = sts.requests.length;
    expect((await cli('login', { GPU_DEV_SERVER_ID: 'elsewhere.example.com' })).err).toMatch(
      /made for "elsewhere\.example\.com"/,
    );
    expect(sts.requests).toHaveLength(asked);
  });

  it('says what to do when there are no credentials', async () => {
    for (const name of Object.keys(AWS)) if (name !== 'AWS_EC2_METADATA_DISABLED') delete process.env[name];
    process.env['AWS_CONFIG_FILE'] = process.env['AWS_SHARED_CREDENTIALS_FILE'] = '/nowhere';
    const { exit, err } = await cli('login');
    delete process.env['AWS_CONFIG_FILE'];
    delete process.env['AWS_SHARED_CREDENTIALS_FILE'];
    expect([exit, err]).toEqual([4, expect.stringMatching(/no AWS credentials to log in with: .*aws sso login/s)]);
  });

  it('is done again by itself before the key ends, and once when a key is not taken', async () => {
    await cli('login');
    const [first] = kept();
    const soon = { ...first, expires_at: new Date(Date.now() + 60_000).toISOString() };
    writeFileSync(file(), JSON.stringify({ version: 1, keys: [soon] }), { mode: 0o600 });
    expect((await cli('whoami')).exit).toBe(0);
    const [second] = kept();
    expect(second.api_key).not.toBe(first.api_key);
    await http.world.db.query('update api_keys set is_active = false, revoked_at = now() where key_hash = $1', [
      hashKey(second.api_key),
    ]);
    http.app.keyRing.forget();
    expect((await cli('whoami')).exit).toBe(0);
    expect(kept()[0].api_key).not.toBe(second.api_key);
    // A service that takes no key at all is asked twice, not for ever.
    sts.answer = says('<Error><Code>ExpiredToken</Code></Error>', 'text/xml', 403);
    await http.world.db.query('update api_keys set is_active = false, revoked_at = now() where is_active');
    http.app.keyRing.forget();
    const asked = sts.requests.length;
    const failed = await cli('whoami');
    expect([failed.exit, failed.err]).toEqual([4, expect.stringMatching(/AWS does not take these credentials: ExpiredToken/)]);
    expect(sts.requests).toHaveLength(asked + 1);
  });

  it('is done again with the same profile, and never as somebody else', async () => {
    const files = { AWS_SHARED_CREDENTIALS_FILE: join(home, 'aws'), AWS_CONFIG_FILE: join(home, 'none') };
    const profile = (name: string, id: string) => `[${name}]\naws_access_key_id = ${id}\naws_secret_access_key = ${SECRET}\n`;
    writeFileSync(
      files.AWS_SHARED_CREDENTIALS_FILE,
      profile('default', 'AKIAHOMEHOMEHOMEHOME') + profile('work', 'AKIAWORKWORKWORKWORK'),
    );
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN']) delete process.env[name];
    Object.assign(process.env, files);
    try {
      const lastId = () => /Credential=(AKIA[A-Z]+)/.exec(JSON.stringify(sts.requests.at(-1)))?.[1];
      const ends = () => {
        const keys = kept().map((key) => ({ ...key, expires_at: new Date(Date.now() + 60_000).toISOString() }));
        writeFileSync(file(), JSON.stringify({ version: 1, keys }), { mode: 0o600 });
      };
      expect((await cli('login --profile work')).exit).toBe(0);
      expect([lastId(), kept()[0].profile]).toEqual(['AKIAWORKWORKWORKWORK', 'work']);
      expect((await cli('keys rotate')).exit).toBe(0);
      for (let round = 0; round < 2; round++) {
        const [{ api_key: old }] = kept();
        const asked = sts.requests.length;
        ends();
        expect((await cli('whoami')).exit).toBe(0);
        expect(sts.requests).toHaveLength(asked + 1);
        expect([lastId(), kept()[0].profile]).toEqual(['AKIAWORKWORKWORKWORK', 'work']);
        expect(kept()[0].api_key).not.toBe(old);
      }
      // The profile is somebody else's by now.
      sts.answer = says(identity('123456789012', arnOf('123456789012', 'SSOCloudDevGpuReservation', 'zoe@example.com')));
      ends();
      const before = readFileSync(file(), 'utf8');
      const asked = sts.requests.length;
      const other = await cli('reserve --type t4 --hours 1 --no-persist --no-wait');
      expect(other.exit).toBe(4);
      expect(other.err).toMatch(
        /AWS profile work would log in zoe@example\.com, and you were mia@example\.com.*gpu-dev login\n$/,
      );
      expect(sts.requests).toHaveLength(asked + 1);
      expect(readFileSync(file(), 'utf8')).toBe(before);
      const { rowCount: made } = await http.world.db.query(`select from reservations where user_id = 'zoe@example.com'`);
      expect(made).toBe(0);
      // To log in is to say so.
      expect((await cli('login')).out).toMatch(/^You are zoe@example\.com /);
      expect(lastId()).toBe('AKIAHOMEHOMEHOMEHOME');
    } finally {
      for (const name of Object.keys(files)) delete process.env[name];
    }
  });

  it('is done once, however often what it gave is not taken', async () => {
    await cli('login');
    // A service that forgets each key at once.
    await http.world.db.query(`
      create function forget_key() returns trigger language plpgsql as $$ begin
        update api_keys set is_active = false, revoked_at = now() where key_id = new.key_id; return null; end $$;
      create trigger forgetful after insert on api_keys for each row execute function forget_key()`);
    await http.world.db.query('update api_keys set is_active = false, revoked_at = now() where is_active');
    http.app.keyRing.forget();
    const asked = sts.requests.length;
    const { exit, err } = await cli('list');
    await http.world.db.query('drop trigger forgetful on api_keys; drop function forget_key()');
    expect([exit, err]).toEqual([4, expect.stringMatching(/was revoked/)]);
    expect(sts.requests).toHaveLength(asked + 1);
  });

  it('with a key of the environment uses that one, and renews nothing', async () => {
    const { authorization } = await http.as('robot', { scopes: ['read'] });
    const key = authorization.replace('Bearer ', '');
    expect((await cli('whoami', { GPU_DEV_API_KEY: key })).out).toMatch(/^user +robot\n/);
    const wrong = await cli('whoami', { GPU_DEV_API_KEY: `gpudev_${'A'.repeat(43)}` });
    expect([wrong.exit, wrong.err]).toEqual([4, expect.stringMatching(/^gpu-dev: No such API key is known here\. Log in again/)]);
    expect((await cli('reserve --type t4 --hours 1', { GPU_DEV_API_KEY: key })).err).toMatch(/lacks the scope reserve/);
  });

  it('believes no file that others may read', async () => {
    await cli('login');
    chmodSync(file(), 0o644);
    const { exit, err } = await cli('whoami');
    expect([exit, err]).toEqual([4, expect.stringMatching(/Others may read \S+credentials, .*chmod 600/s)]);
  });

  it('--local is for those at this machine, each by their name', async () => {
    expect((await cli('login --local --user noa')).out).toMatch(/^You are noa at /);
    expect((await cli('whoami --user noa')).out).toMatch(/^user +noa\n/);
    expect((await cli('whoami --user ole')).out).toMatch(/^user +ole\n/);
    expect(kept().map(({ user }) => user)).toEqual(['ole', 'noa']);
  });
});

describe('gpu-dev logout', () => {
  it('revokes the key and forgets it', async () => {
    await cli('login');
    const [{ api_key: key }] = kept();
    expect((await cli('logout')).out).toBe('Logged out: mia@example.com.\n');
    expect((await http.app.inject({ url: '/v1/me', headers: { authorization: `Bearer ${key}` } })).statusCode).toBe(401);
    expect(() => statSync(file())).toThrow('ENOENT');
    expect((await cli('logout')).out).toMatch(/^You were not logged in at /);
  });
});

describe('gpu-dev keys', () => {
  it('lists, makes, rotates and revokes them', async () => {
    await cli('login');
    const made = await cli('keys create --scopes read --hours 0.5 --for screen');
    const key = /^gpudev_\S+/.exec(made.out)![0];
    expect((await cli('whoami', { GPU_DEV_API_KEY: key })).out).toMatch(/may +read\n/);
    const [{ api_key: old }] = kept();
    expect((await cli('keys rotate')).out).toMatch(/^Done; the new key gpudev_/);
    expect(kept()[0].api_key).not.toBe(old);
    const list = await cli('keys list');
    expect(list.out).toMatch(/\(this\)/);
    expect(list.out).not.toContain(key);
    const id = (JSON.parse((await cli('keys list --json')).out) as Json).keys.find(
      (one: Json) => one.description === 'screen',
    ).id;
    expect((await cli(`keys revoke ${id}`)).out).toMatch(/^gpudev_\S+… is revoked\.\n$/);
    expect((await cli('whoami', { GPU_DEV_API_KEY: key })).exit).toBe(4);
  });
});

describe('gpu-dev share', () => {
  it('lets somebody in, shows who is, and lets them in no more', async () => {
    await cli('login');
    await cli('login --local --user pia');
    const { id } = JSON.parse((await cli('reserve --type t4 --hours 1 --no-persist --no-wait --json')).out) as Json;
    const shared = await cli(`share pia ${id} --role view`);
    expect(shared.out).toMatch(/mia@example\.com +owns it\npia +view\n/);
    expect((await cli(`show ${id} --user pia`)).exit).toBe(0);
    expect((await cli(`cancel ${id} --user pia`)).err).toMatch(/You may view this reservation; for this one must own it/);
    expect((await cli(`share pia ${id} --role attach`)).out).toMatch(
      /Their SSH keys are not let in: pia has not proven a GitHub name yet/,
    );
    expect((await cli(`shared ${id}`)).out).toMatch(/pia +attach/);
    expect((await cli(`unshare pia ${id}`)).out).not.toMatch(/pia/);
    expect((await cli(`show ${id} --user pia`)).exit).toBe(3);
    expect((await cli(`cancel ${id}`)).exit).toBe(0);
  });
});
