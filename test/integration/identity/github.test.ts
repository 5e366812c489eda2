import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_IDENTITY } from '../../../src/identity/settings.ts';
import { isSignedBy } from '../../../src/identity/ssh-signature.ts';
import { GithubKeys } from '../../../src/providers/local/github-keys.ts';
import { type HttpWorld, type Json, startHttp } from '../http/support.ts';

const folder = mkdtempSync(join(tmpdir(), 'gpu-dev-github-'));
/** What GitHub shows, by lower-case name. */
const published = new Map<string, string>();
let github: Server;
let http: HttpWorld;
beforeAll(async () => {
  github = createServer((request, response) => {
    const keys = published.get(request.url!.slice(1).replace(/\.keys$/, ''));
    response.writeHead(keys === undefined ? 404 : 200).end(keys ?? 'Not Found');
  });
  await new Promise<void>((resolve) => github.listen(0, '127.0.0.1', resolve));
  const proofKeys = new GithubKeys({
    baseUrl: `http://127.0.0.1:${(github.address() as AddressInfo).port}`,
    freshMs: 0,
    staleMs: 0,
  });
  http = await startHttp({ fleet: { t4: 1 } }, { identity: { ...DEFAULT_IDENTITY, proofKeys, admins: ['operator'] } });
});
afterAll(async () => {
  await http?.stop();
  github?.closeAllConnections();
  await new Promise((resolve) => github?.close(resolve));
  rmSync(folder, { recursive: true });
});

function string(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
interface SshKey {
  line: string;
  sign(message: string, namespace?: string): string;
}
/** An Ed25519 key that signs as ssh-keygen does, for where there is none. */
function newKey(): SshKey {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const blob = Buffer.concat([string('ssh-ed25519'), string(Buffer.from(publicKey.export({ format: 'jwk' }).x!, 'base64url'))]);
  return {
    line: `ssh-ed25519 ${blob.toString('base64')}`,
    sign: (message, namespace = 'gpu-dev') => {
      const digest = execHash(message);
      const signed = Buffer.concat([Buffer.from('SSHSIG'), string(namespace), string(''), string('sha512'), string(digest)]);
      const signature = Buffer.concat([string('ssh-ed25519'), string(sign(null, signed, privateKey))]);
      const version = Buffer.from([0, 0, 0, 1]);
      const whole = [
        Buffer.from('SSHSIG'),
        version,
        string(blob),
        string(namespace),
        string(''),
        string('sha512'),
        string(signature),
      ];
      return `-----BEGIN SSH SIGNATURE-----\n${Buffer.concat(whole).toString('base64')}\n-----END SSH SIGNATURE-----\n`;
    },
  };
}
import { createHash } from 'node:crypto';
const execHash = (message: string) => createHash('sha512').update(message).digest();

const withKey = (user: string, key?: string) => ({ user, ...(key === undefined ? {} : { key }) });
const asked = (user: string, name: string, key?: string) =>
  http.post('/v1/me/github', { github_username: name }, withKey(user, key));
const prove = (user: string, signature: string, key?: string) =>
  http.post('/v1/me/github/proof', { signature }, withKey(user, key));
const wish = { gpu_type: 't4', duration_hours: 1, no_persistent_disk: true };

describe('a GitHub name', () => {
  it('T9: is a user’s when it is proven, once, by a signature with a key that GitHub shows; else it is nobody’s', async () => {
    const [key, stranger] = [newKey(), newKey()];
    published.set('octo-cat', key.line);
    const { body } = await asked('ada', 'octo-cat');
    expect(body.message).toContain('I am ada of gpu-dev and octo-cat of GitHub.');
    for (const [signature, why] of [
      [stranger.sign(body.message), /with a key that GitHub shows/],
      [key.sign(`${body.message} `), /with a key that GitHub shows/],
      [key.sign(body.message, 'file'), /made for "file"/],
      ['hello', /no SSH SIGNATURE block/],
      [key.sign(body.message).slice(0, 80), /no SSH SIGNATURE block/],
    ] as [string, RegExp][]) {
      const refused = await prove('ada', signature);
      expect([refused.status, refused.body.code]).toEqual([422, 'GPU_GITHUB_UNPROVEN']);
      expect(refused.body.detail).toMatch(why);
    }
    // What she was asked proves nothing of somebody else.
    await asked('eve', 'octo-cat');
    expect((await prove('eve', key.sign(body.message))).body.code).toBe('GPU_GITHUB_UNPROVEN');
    expect((await http.get('/v1/me', 'ada')).body.github_user).toBeNull();

    expect((await prove('ada', key.sign(body.message))).body).toEqual({ github_user: 'octo-cat' });
    expect((await http.get('/v1/me', 'ada')).body.github_user).toBe('octo-cat');
    expect((await prove('ada', key.sign(body.message))).body.code).toBe('GPU_GITHUB_UNPROVEN');
    expect((await asked('eve', 'Octo-Cat')).body).toMatchObject({ status: 409, code: 'GPU_GITHUB_TAKEN' });
    expect((await http.get('/v1/admin/audit?action=user.prove_github')).body.entries).toMatchObject([
      { actor: 'ada', object: 'user/ada', details: { github_user: 'octo-cat' } },
    ]);
    // Of two who prove it at the same time, one has it.
    published.set('shared-name', key.line);
    const both = await Promise.all(['fay', 'gus'].map(async (user) => key.sign((await asked(user, 'shared-name')).body.message)));
    const outcomes = await Promise.all([prove('fay', both[0]!), prove('gus', both[1]!)]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual([200, 409]);
  });

  it('that does not exist, or of which GitHub says nothing now, is not proven', async () => {
    const { body } = await asked('hal', 'nobody-here');
    expect((await prove('hal', newKey().sign(body.message))).body).toMatchObject({ status: 422, code: 'GPU_GITHUB_UNPROVEN' });
    expect((await prove('ivy', 'x')).body).toMatchObject({
      status: 422,
      detail: expect.stringContaining('nothing was asked of you'),
    });
    expect((await asked('hal', '../x')).body).toMatchObject({ status: 400, field: 'github_username' });
  });

  it('R5: is asked for and proven once, by requests that are sent again under their keys', async () => {
    const key = newKey();
    published.set('again-hub', key.line);
    const [first, again] = [await asked('lea', 'again-hub', 'ask'), await asked('lea', 'again-hub', 'ask')];
    expect([first.status, again.status]).toEqual([200, 200]);
    // What is open stays what must be signed, whoever else of hers asks for it meanwhile.
    for (const { body } of [again, await asked('lea', 'again-hub'), await asked('lea', 'again-hub', 'ask')])
      expect(body.message).toBe(first.body.message);
    const conflict = { status: 409, code: 'GPU_IDEMPOTENCY_CONFLICT', field: 'idempotency_key' };
    expect((await asked('lea', 'other-hub', 'ask')).body).toMatchObject(conflict);
    const signature = key.sign(first.body.message);
    const proofs = [await prove('lea', signature, 'prove'), await prove('lea', signature, 'prove')];
    expect(proofs.map(({ body }) => body)).toEqual([{ github_user: 'again-hub' }, { github_user: 'again-hub' }]);
    expect((await prove('lea', 'another', 'prove')).body).toMatchObject(conflict);
    expect((await prove('lea', signature)).body.code).toBe('GPU_GITHUB_UNPROVEN');
    const { entries } = (await http.get('/v1/admin/audit?action=user.prove_github')).body;
    expect(entries.filter(({ actor }: Json) => actor === 'lea')).toHaveLength(1);
    // What was refused is not kept: the same key may prove what is true later.
    const { body } = await asked('mia', 'mia-hub');
    expect((await prove('mia', newKey().sign(body.message), 'prove')).status).toBe(422);
    const own = newKey();
    published.set('mia-hub', own.line);
    expect((await prove('mia', own.sign(body.message), 'prove')).status).toBe(200);
  });

  it('is forgotten when an admin says so, and free to be proven again', async () => {
    const key = newKey();
    published.set('passing', key.line);
    await prove('jim', key.sign((await asked('jim', 'passing')).body.message));
    const { user_id: id } = (await http.get('/v1/me', 'jim')).body;
    const headers = await http.as('operator', { admin: true });
    await http.app.inject({ method: 'PATCH', url: `/v1/users/${id}`, headers, payload: { github_user: null } });
    expect((await http.get('/v1/me', 'jim')).body.github_user).toBeNull();
    expect((await prove('kim', key.sign((await asked('kim', 'passing')).body.message))).status).toBe(200);
  });
});

describe('collaborators', () => {
  let id: string;
  const collaborators = (user: string) => http.get(`/v1/reservations/${id}/collaborators`, user);
  const share = (body: unknown, user = 'nora', key?: string) =>
    http.post(`/v1/reservations/${id}/collaborators`, body, withKey(user, key));
  const unshare = async (who: string, user = 'nora') =>
    http.app.inject({ method: 'DELETE', url: `/v1/reservations/${id}/collaborators/${who}`, headers: await http.as(user) });
  beforeAll(async () => {
    for (const [user, name] of [
      ['olga', 'olga-hub'],
      ['pete', 'pete-hub'],
    ] as const) {
      const key = newKey();
      published.set(name, key.line);
      await prove(user, key.sign((await asked(user, name)).body.message));
    }
    await http.get('/v1/me', 'quinn');
    id = (await http.post('/v1/reservations', wish, { user: 'nora' })).body.id;
    await http.world.reaches(id, 'running');
  });

  it('are let in by user or by GitHub name, with what their role allows', async () => {
    expect((await collaborators('olga')).status).toBe(404);
    const viewed = await share({ user: 'quinn', role: 'view' });
    expect(viewed.body.collaborators).toMatchObject([{ user: 'quinn', role: 'view', ssh: false, added_by: 'nora' }]);
    const attached = await share({ github_username: 'Olga-Hub' });
    expect(attached.body.ssh_note).toBeNull();
    expect(attached.body.collaborators).toMatchObject([{ user: 'quinn' }, { user: 'olga', role: 'attach', ssh: true }]);
    expect((await http.world.reservation(id))?.['secondary_users']).toEqual(['Olga-Hub']);

    const statusOf = async (user: string) => [
      (await http.get(`/v1/reservations/${id}`, user)).status,
      (await http.get(`/v1/reservations/${id}/jupyter-token`, user)).status,
      (await http.post(`/v1/reservations/${id}/events`, { type: 'extend', extension_hours: 0.1 }, { user })).status,
    ];
    expect(await statusOf('quinn')).toEqual([200, 403, 403]);
    expect(await statusOf('olga')).toEqual([200, 200, 403]);
    await share({ user: 'quinn', role: 'own' });
    expect(await statusOf('quinn')).toEqual([200, 200, 200]);
    expect((await share({ user: 'pete', role: 'attach' }, 'quinn')).status).toBe(200);
    expect((await http.world.reservation(id))?.['secondary_users'].sort()).toEqual(['Olga-Hub', 'pete-hub']);
    expect((await http.get(`/v1/reservations/${id.slice(0, 13)}`, 'pete')).body.id).toBe(id);
  });

  it('see what was shared with them, and only they', async () => {
    const shared = async (user: string) =>
      (await http.get('/v1/reservations?shared=true', user)).body.reservations.map((one: Json) => one.id);
    expect([await shared('olga'), await shared('quinn'), await shared('nora'), await shared('eve')]).toEqual([
      [id],
      [id],
      [],
      [],
    ]);
    const byName = async (user: string) =>
      (await http.get('/v1/reservations?shared_with=olga-hub', user)).body.reservations.length;
    expect([await byName('olga'), await byName('nora'), await byName('eve')]).toEqual([1, 1, 0]);
    expect((await http.get('/v1/reservations', 'olga')).body.reservations).toEqual([]);
  });

  it('T9: a name that nobody has proven gets its SSH keys let in and nothing else, until somebody proves it', async () => {
    const added = await share({ github_username: 'later-hub' });
    expect(added.body.collaborators).toContainEqual(
      expect.objectContaining({ user: null, github_user: 'later-hub', role: null, ssh: true }),
    );
    expect((await share({ github_username: 'other-hub', role: 'own' })).body).toMatchObject({ status: 400, field: 'role' });
    expect((await http.get(`/v1/reservations/${id}`, 'rosa')).status).toBe(404);
    const key = newKey();
    published.set('later-hub', key.line);
    await prove('rosa', key.sign((await asked('rosa', 'later-hub')).body.message));
    expect((await http.get(`/v1/reservations/${id}`, 'rosa')).status).toBe(200);
    expect((await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: 'rosa' })).status).toBe(403);
  });

  it('R5: are let in once by a request that is sent again under its key, and not anew when they were removed meanwhile', async () => {
    const mayLogIn = async () => (await http.world.reservation(id))?.['secondary_users'] as string[];
    const wishes: [object, string][] = [
      [{ user: 'pete', role: 'own' }, 'pete'],
      [{ github_username: 'unproven-hub' }, 'unproven'],
    ];
    expect((await unshare('pete')).statusCode).toBe(200);
    for (const [who, key] of wishes) expect((await share(who, 'nora', key)).body.ssh_note).toBeNull();
    expect(await mayLogIn()).toEqual(expect.arrayContaining(['pete-hub', 'unproven-hub']));
    const audited = async () => (await http.get(`/v1/admin/audit?object=reservation/${id}`)).body.entries.length;
    const before = await audited();
    for (const [who, key] of wishes) expect((await share(who, 'nora', key)).status).toBe(200);
    expect(await audited()).toBe(before);
    for (const who of ['pete', 'github:unproven-hub']) expect((await unshare(who)).statusCode).toBe(200);
    for (const [who, key] of wishes) expect((await share(who, 'nora', key)).status).toBe(200);
    for (const name of ['pete-hub', 'unproven-hub']) expect(await mayLogIn()).not.toContain(name);
    expect((await http.get(`/v1/reservations/${id}`, 'pete')).status).toBe(404);
    const other = await share({ user: 'pete', role: 'view' }, 'nora', 'pete');
    expect(other.body).toMatchObject({ status: 409, code: 'GPU_IDEMPOTENCY_CONFLICT', field: 'idempotency_key' });
    // Keys of the events of a reservation are others, and those of each user are their own.
    const event = { type: 'add_user', github_username: 'event-hub' };
    const ask = (body: object, user: string, key: string) => http.post(`/v1/reservations/${id}/events`, body, withKey(user, key));
    expect((await ask(event, 'nora', 'pete')).status).toBe(200);
    expect((await ask({ ...event, type: 'remove_user' }, 'quinn', 'pete')).status).toBe(200);
    expect((await share({ user: 'pete' }, 'quinn', 'pete')).body.collaborators).toContainEqual(
      expect.objectContaining({ user: 'pete', role: 'attach', ssh: true }),
    );
    // The beginning of an id is the same reservation, as long as it is.
    const short = `/v1/reservations/${id.slice(0, 13)}/collaborators`;
    await unshare('pete');
    expect((await http.post(short, { user: 'pete' }, withKey('quinn', 'pete'))).status).toBe(200);
    expect((await http.get(`/v1/reservations/${id}`, 'pete')).status).toBe(404);
    expect((await share({ user: 'pete' }, 'nora', 'pete again')).body.ssh_note).toBeNull();
  });

  it('R5: of another reservation is another, though its path is the same', async () => {
    const make = async (n: number) => {
      const reservation_id = `0b5e55ed-0000-4000-8000-00000000000${n}`;
      await http.post('/v1/reservations', { ...wish, reservation_id }, { user: 'olivia' });
      await http.world.reaches(reservation_id, 'running');
      return reservation_id;
    };
    const shareIt = () => http.post('/v1/reservations/0b5e55ed/collaborators', { user: 'quinn' }, withKey('olivia', 'same path'));
    const first = await make(1);
    expect((await shareIt()).body.id).toBe(first);
    await http.post(`/v1/reservations/${first}/events`, { type: 'cancel' }, { user: 'olivia' });
    await http.world.reaches(first, 'cancelled');
    const second = await make(2);
    expect((await shareIt()).body).toMatchObject({ status: 409, code: 'GPU_IDEMPOTENCY_CONFLICT' });
    expect((await http.get(`/v1/reservations/${second}`, 'quinn')).status).toBe(404);
  });

  it('are let in no more when they are removed, by either name, or by remove_user', async () => {
    expect((await unshare('olga')).statusCode).toBe(200);
    expect((await http.get(`/v1/reservations/${id}`, 'olga')).status).toBe(404);
    expect((await unshare('github:pete-hub')).statusCode).toBe(200);
    expect((await http.get(`/v1/reservations/${id}`, 'pete')).status).toBe(404);
    await http.post(`/v1/reservations/${id}/events`, { type: 'remove_user', github_username: 'later-hub' }, { user: 'nora' });
    expect((await http.get(`/v1/reservations/${id}`, 'rosa')).status).toBe(404);
    expect((await http.world.reservation(id))?.['secondary_users']).toEqual([]);
    expect((await unshare('olga')).json()).toMatchObject({ status: 404, code: 'GPU_USER_UNKNOWN' });
    expect((await share({ user: 'nobody-at-all' })).body).toMatchObject({ status: 404, code: 'GPU_USER_UNKNOWN' });
    expect((await share({ user: 'nora', role: 'own' })).body).toMatchObject({ status: 400, field: 'user' });
    const rows = (await http.get(`/v1/admin/audit?object=reservation/${id}`)).body.entries.map((row: Json) => row.action);
    expect(rows).toEqual(
      expect.arrayContaining(['reservation.share', 'reservation.unshare', 'reservation.add_user', 'reservation.remove_user']),
    );
  });
});

const keygen = (() => {
  try {
    execFileSync('ssh-keygen', ['-?'], { stdio: 'ignore' });
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
})();

describe.skipIf(!keygen)('signatures of ssh-keygen', () => {
  it.each([
    ['ed25519', []],
    ['rsa', ['-b', '2048']],
    ['ecdsa', ['-b', '256']],
    ['ecdsa', ['-b', '384']],
    ['ecdsa', ['-b', '521']],
  ])('with %s %j are understood, and no other message or namespace passes', (type, size) => {
    const file = join(folder, `${type}${size.at(-1) ?? ''}`);
    execFileSync('ssh-keygen', ['-q', '-t', type, ...size, '-N', '', '-C', 'somebody', '-f', file]);
    const line = readFileSync(`${file}.pub`, 'utf8').trim();
    // Numbers with a leading zero or a high bit have a form of their own: one in some hundred.
    for (let n = 0; n < 20; n++) {
      writeFileSync(join(folder, 'message'), `hello ${n}\n`);
      execFileSync('ssh-keygen', ['-q', '-Y', 'sign', '-n', 'gpu-dev', '-f', file, join(folder, 'message')], { stdio: 'ignore' });
      const signature = readFileSync(join(folder, 'message.sig'), 'utf8');
      rmSync(join(folder, 'message.sig'));
      expect(isSignedBy(['ssh-ed25519 AAAA other', line], signature, `hello ${n}\n`, 'gpu-dev')).toBe(true);
      expect(isSignedBy([line], signature, `hello ${n}`, 'gpu-dev')).toBe(false);
      expect(isSignedBy([], signature, `hello ${n}\n`, 'gpu-dev')).toBe(false);
      expect(() => isSignedBy([line], signature, `hello ${n}\n`, 'other')).toThrow('not for "other"');
    }
  });
});
