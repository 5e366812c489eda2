import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildOf } from '../../../actors/intake/build-context.ts';
import { issueToken } from '../../../persistence/build-contexts.ts';
import { Database } from '../../../persistence/database.ts';
import { buildContextServer } from '../../../src/http/build-contexts.ts';
import { unpackDebian } from '../../support/debian.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { contextOf, folderOf, runProgram, SCRIPT } from './support.ts';

const debian = await unpackDebian('busybox', ['busybox-static']);
const busybox = 'missing' in debian ? '' : join(debian.folder, 'bin/busybox');
const APPLETS = [
  'sh',
  'wget',
  'tar',
  'gzip',
  'gunzip',
  'sed',
  'cat',
  'rm',
  'mkdir',
  'sleep',
  'timeout',
  'tail',
  'head',
  'tr',
  'wc',
];

const files = {
  Dockerfile: 'FROM scratch\nCOPY data /\n',
  data: randomBytes(2_000_000),
  'deep/er/run me.sh': '#!/bin/sh\necho "$(whoami)"\n',
};
const PASSWORD = 'correct-horse-battery';
let database: TestDatabase;
let db: Database;
let server: FastifyInstance;
let url: string;
let hash: string;
let archive: Buffer;

beforeAll(async () => {
  database = await createTestDatabase();
  db = new Database({ ...database.config, maxConnections: 4 });
  server = buildContextServer(db, false);
  await server.listen({ host: '127.0.0.1', port: 0 });
  url = `http://127.0.0.1:${(server.server.address() as AddressInfo).port}`;
  ({ hash, archive } = buildOf(contextOf(files)));
  await db.query('insert into build_contexts (hash, owner, archive) values ($1, $2, $3)', [hash, 'ada', archive]);
  await db.query(
    `insert into actors (actor, kind, machine_version, status, state, snapshot, seq, born_at)
     values ($1, 'image', 1, 'active', 'building', '{"context": {"attempt": 1}}', 1, now())`,
    [`image/${hash}`],
  );
});
afterAll(async () => {
  await server?.close();
  await db?.close();
  await database?.drop();
});

const get = (token: string | null, of = hash) =>
  fetch(`${url}/v1/build-contexts/${of}`, { headers: token === null ? {} : { authorization: `Bearer ${token}` } });
const codeOf = async (answer: Response) => [answer.status, ((await answer.json()) as { code: string }).code];

/** A client that decides by itself how much it takes, and when. */
function reader(address: string, token: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(address).port), '127.0.0.1', () => {
      socket.pause();
      socket.write(`GET /v1/build-contexts/${hash} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\n\r\n`);
      resolve(socket);
    });
    socket.on('error', reject);
  });
}

const isUsed = async () =>
  (await db.query<{ used: boolean }>('select used_at is not null as used from build_tokens order by created_at desc limit 1', []))
    .rows[0]!.used;

describe('the way of a build context', () => {
  it('S36 T5: is open once to a token, which is stored only as its hash, and gives the very bytes that were sent', async () => {
    const token = await issueToken(db, { hash, attempt: 1 }, 60);
    expect(token).toMatch(/^[0-9a-f]{64}$/);
    const { rows } = await db.query('select * from build_tokens', []);
    expect(JSON.stringify(rows)).not.toContain(token);
    expect(rows[0]).toMatchObject({ token_hash: createHash('sha256').update(token).digest('hex'), hash, attempt: 1 });
    const answer = await get(token);
    expect(Buffer.from(await answer.arrayBuffer()).equals(archive)).toBe(true);
    expect(await codeOf(await get(token))).toEqual([410, 'GPU_BUILD_TOKEN_SPENT']);
  });

  it('is open to one of many that come at once', async () => {
    const token = await issueToken(db, { hash, attempt: 1 }, 60);
    const answers = await Promise.all(Array.from({ length: 8 }, () => get(token)));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array.from({ length: 7 }, () => 410)]);
    await Promise.all(answers.map((answer) => answer.arrayBuffer()));
  });

  it('is closed to no token, another, one of another context, one that expired, and one whose attempt is over', async () => {
    for (const token of [null, 'x', randomBytes(32).toString('hex')])
      expect(await codeOf(await get(token))).toEqual([401, 'GPU_BUILD_TOKEN_INVALID']);
    const other = await issueToken(db, { hash: 'a'.repeat(64), attempt: 1 }, 60);
    expect(await codeOf(await get(other))).toEqual([401, 'GPU_BUILD_TOKEN_INVALID']);
    for (const spent of [
      await issueToken(db, { hash, attempt: 1 }, -1),
      await issueToken(db, { hash, attempt: 0 }, 60),
      await issueToken(db, { hash, attempt: 2 }, 60),
    ])
      expect(await codeOf(await get(spent))).toEqual([410, 'GPU_BUILD_TOKEN_SPENT']);
    await db.query(`update actors set state = 'idle' where actor = $1`, [`image/${hash}`]);
    const late = await issueToken(db, { hash, attempt: 1 }, 60);
    expect(await codeOf(await get(late))).toEqual([410, 'GPU_BUILD_TOKEN_SPENT']);
    await db.query(`update actors set state = 'building' where actor = $1`, [`image/${hash}`]);
    expect((await get(late)).status).toBe(200);
  });

  describe('that is larger than the buffers between the two take: what is in them counts as gone out', () => {
    const large = randomBytes(16_000_000);
    beforeAll(() => db.query('update build_contexts set archive = $2 where hash = $1', [hash, large]));
    afterAll(() => db.query('update build_contexts set archive = $2 where hash = $1', [hash, archive]));

    it('is open again if the connection broke before all had arrived', async () => {
      const token = await issueToken(db, { hash, attempt: 1 }, 60);
      const socket = await reader(url, token);
      await once(socket, 'readable');
      expect(await isUsed()).toBe(true);
      socket.destroy();
      await expect.poll(isUsed).toBe(false);
      const answer = await get(token);
      expect(answer.status).toBe(200);
      await answer.arrayBuffer();
    });

    it('may take as long as it goes on, and is cut off, and open again, when it stands still', async () => {
      const patient = buildContextServer(db, false, { patienceMs: 1_000, answerMs: 500 });
      await patient.listen({ host: '127.0.0.1', port: 0 });
      const address = `http://127.0.0.1:${(patient.server.address() as AddressInfo).port}`;
      const token = await issueToken(db, { hash, attempt: 1 }, 60);
      const stalled = await reader(address, token);
      stalled.on('error', () => undefined);
      await once(stalled, 'readable');
      expect(await isUsed()).toBe(true);
      await expect.poll(isUsed, { timeout: 5_000 }).toBe(false);
      stalled.destroy();

      const began = performance.now();
      const slow = await reader(address, token);
      let [size, next] = [0, 0];
      slow.on('data', (data) => {
        size += data.length;
        if (size < next) return;
        next = size + 1_000_000;
        slow.pause();
        setTimeout(() => slow.resume(), 200);
      });
      slow.resume();
      await expect.poll(() => size, { timeout: 15_000 }).toBeGreaterThan(large.length);
      expect(performance.now() - began).toBeGreaterThan(1_500);
      expect(await isUsed()).toBe(true);
      slow.destroy();
      await patient.close();
    });
  });
});

const shells = [
  { name: 'busybox, as in the image of the builder', shell: busybox, missing: busybox === '' },
  { name: 'the shell and wget of this machine', shell: '/bin/sh', missing: !existsSync('/usr/bin/wget') },
];

describe.each(shells)('the script of a build, run by $name', ({ shell, missing }) => {
  /** A place with programs on PATH, a token, and an empty context. */
  function place(token: string, buildctl = 'exit 0') {
    const folder = folderOf({ token, 'docker/config.json': JSON.stringify({ auths: { r: { password: PASSWORD } } }) });
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    if (shell === busybox) for (const applet of APPLETS) symlinkSync(busybox, join(bin, applet));
    writeFileSync(join(bin, 'buildctl-daemonless.sh'), `#!/bin/sh\n${buildctl}\n`);
    chmodSync(join(bin, 'buildctl-daemonless.sh'), 0o755);
    const env = {
      PATH: shell === busybox ? bin : `${bin}:/usr/bin:/bin`,
      CONTEXT: join(folder, 'context'),
      TOKEN_FILE: join(folder, 'token'),
      CONTEXT_URL: `${url}/v1/build-contexts/${hash}`,
      FETCH_TRIES: '2',
      FETCH_PAUSE: '0',
      IMAGE: 'registry.test/dev:abc',
      CACHE: 'registry.test/dev:cache-1',
      DOCKER_CONFIG: join(folder, 'docker'),
      RESULT_FILE: join(folder, 'result'),
      ARGUMENTS: join(folder, 'arguments'),
    };
    const run = (step: string, more: NodeJS.ProcessEnv = {}) =>
      runProgram(shell, [...(shell === busybox ? ['sh'] : []), SCRIPT, step], { ...env, ...more });
    return { folder, env, run };
  }

  it.skipIf(missing)(
    'S36 T5: fetches the context byte for byte with its token, builds from it, and writes no secret',
    async () => {
      const token = await issueToken(db, { hash, attempt: 1 }, 60);
      const digest = `sha256:${'a'.repeat(64)}`;
      const { folder, env, run } = place(
        token,
        `printf '%s\\n' "$@" > "$ARGUMENTS"
       echo '#7 [2/3] COPY data /'
       printf '{\\n  "containerimage.digest": "${digest}",\\n  "x": {}\\n}' > /tmp/metadata.json`,
      );
      const fetched = await run('fetch');
      expect(fetched).toEqual({ code: 0, log: '' });
      for (const [name, content] of Object.entries(files))
        expect(readFileSync(join(env.CONTEXT, 'files', name)).equals(Buffer.from(content)), name).toBe(true);
      expect(existsSync(join(env.CONTEXT, '.packed.tar.gz'))).toBe(false);

      const built = await run('build', { REGISTRY_INSECURE: 'true' });
      expect(built).toEqual({ code: 0, log: '#7 [2/3] COPY data /\n' });
      expect(readFileSync(env.RESULT_FILE, 'utf8')).toBe(digest);
      const given = readFileSync(env.ARGUMENTS, 'utf8').split('\n');
      expect(given).toContain('type=image,name=registry.test/dev:abc,push=true,registry.insecure=true');
      expect(given).toContain('type=registry,ref=registry.test/dev:cache-1,registry.insecure=true,mode=max,ignore-error=true');
      expect(given).toContain(`context=${env.CONTEXT}/files`);
      expect(given.join()).not.toContain(token);
      rmSync('/tmp/metadata.json', { force: true });

      // The second time the token is spent: the log says so, and neither token nor password.
      const again = await run('fetch');
      expect(again.code).toBe(41);
      expect(again.log).toBe('build: the build context could not be fetched (410)\n');
      for (const { log } of [fetched, built, again]) expect(log).not.toMatch(new RegExp(`${token}|${PASSWORD}|Bearer`));
      rmSync(folder, { recursive: true, force: true });
    },
  );

  it.skipIf(missing)(
    'says in one sentence what went wrong: a wrong token, no answer, a context that is none, a build that fails',
    async () => {
      const wrong = place(randomBytes(32).toString('hex'), 'echo "step 3 failed"; exit 7');
      expect(await wrong.run('fetch')).toEqual({ code: 41, log: 'build: the build context could not be fetched (401)\n' });
      expect(await wrong.run('fetch', { CONTEXT_URL: 'http://127.0.0.1:9/x' })).toEqual({
        code: 41,
        log: 'build: the build context could not be fetched (no answer)\n',
      });
      expect((await wrong.run('build')).log).toBe('build: the build context holds no Dockerfile\n');
      mkdirSync(join(wrong.env.CONTEXT, 'files'), { recursive: true });
      writeFileSync(join(wrong.env.CONTEXT, 'files/Dockerfile'), 'FROM scratch');
      expect(await wrong.run('build')).toEqual({ code: 44, log: 'step 3 failed\nbuild: the build ended with code 7\n' });
      writeFileSync(wrong.env.TOKEN_FILE, '');
      expect((await wrong.run('fetch')).log).toBe('build: there is no token for the build context\n');
    },
  );

  it.skipIf(missing)('waits for a context that comes slowly, and asks again for one that comes no further', async () => {
    // More than the buffers between the two take.
    const data = randomBytes(8_000_000);
    const tar = { maxBuffer: 2 * data.length };
    const large = execFileSync('tar', ['-cz', '-C', folderOf({ Dockerfile: 'FROM scratch', data }), 'Dockerfile', 'data'], tar);
    await db.query('update build_contexts set archive = $2 where hash = $1', [hash, large]);
    let asked = 0;
    // Between the pod and the service: the first connection stands still after its beginning, the second comes in pieces.
    const link = createServer((near) => {
      const first = asked++ === 0;
      const far = connect(Number(new URL(url).port), '127.0.0.1');
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        one.on('error', () => other.destroy()).on('close', () => other.destroy());
      }
      near.pipe(far);
      let [size, next] = [0, 2_500_000];
      far.on('data', (piece) => {
        near.write(first ? piece.subarray(0, 2_000) : piece);
        size += piece.length;
        if (!first && size < next) return;
        far.pause();
        next += 2_500_000;
        if (!first) setTimeout(() => far.resume(), 600);
      });
    });
    await new Promise<void>((resolve) => link.listen(0, '127.0.0.1', resolve));
    const { run, env } = place(await issueToken(db, { hash, attempt: 1 }, 60));
    const CONTEXT_URL = `http://127.0.0.1:${(link.address() as AddressInfo).port}/v1/build-contexts/${hash}`;
    const began = performance.now();
    // Each look finds more than the one before: together they are longer than it waits for nothing.
    expect(await run('fetch', { CONTEXT_URL, FETCH_PATIENCE: '1', FETCH_PAUSE: '1' })).toEqual({ code: 0, log: '' });
    expect(performance.now() - began).toBeGreaterThan(3_000);
    expect(asked).toBe(2);
    expect(readFileSync(join(env.CONTEXT, 'files/data')).equals(data)).toBe(true);
    link.close();
    await db.query('update build_contexts set archive = $2 where hash = $1', [hash, archive]);
  });

  it.skipIf(missing)('B6: builds without a cache; one that tells no digest has failed, whatever was pushed', async () => {
    const plain = place('x', 'printf "%s\\n" "$@" > "$ARGUMENTS"; printf "{%s}" "$METADATA" > /tmp/metadata.json');
    mkdirSync(join(plain.env.CONTEXT, 'files'), { recursive: true });
    writeFileSync(join(plain.env.CONTEXT, 'files/Dockerfile'), 'FROM scratch');
    const digest = `sha256:${'b'.repeat(64)}`;
    const built = await plain.run('build', { CACHE: '', METADATA: `"containerimage.digest":"${digest}"` });
    expect(built).toEqual({ code: 0, log: '' });
    expect(readFileSync(plain.env.ARGUMENTS, 'utf8')).not.toContain('cache');
    expect(readFileSync(plain.env.RESULT_FILE, 'utf8')).toBe(digest);
    rmSync(plain.env.RESULT_FILE);
    for (const METADATA of ['', '"containerimage.digest":"latest"', `"image.name":"${digest}"`]) {
      const told = await plain.run('build', { CACHE: '', METADATA });
      expect(told).toEqual({ code: 45, log: 'build: the builder told no digest of the image\n' });
      expect(existsSync(plain.env.RESULT_FILE)).toBe(false);
    }
    rmSync('/tmp/metadata.json', { force: true });
  });
});
