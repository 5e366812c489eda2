import { type ChildProcess, spawn } from 'node:child_process';
import { createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../../src/cli/program.ts';
import { runInside } from '../../../src/providers/kubernetes/exec.ts';
import { type HttpWorld, type Json, startHttp } from './support.ts';
import { databaseEnvironment } from '../../support/database-environment.ts';

const BIN = fileURLToPath(new URL('../../../bin/gpu-dev.js', import.meta.url));
let http: HttpWorld;
let url: string;
/** Where the commands keep their keys. */
const home = mkdtempSync(join(tmpdir(), 'gpu-dev-cli-'));
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1, h100: 1 } }, { cluster: 'simulated' });
  await http.app.listen({ host: '127.0.0.1', port: 0 });
  url = `http://127.0.0.1:${(http.app.server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  await http?.stop();
  rmSync(home, { recursive: true });
});

interface Ran {
  exit: number;
  out: string;
  err: string;
}

/** Run a command line in this process, as its own user unless the environment says otherwise. */
async function cli(line: string, environment: NodeJS.ProcessEnv = {}): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const exit = await run(line.split(' ').filter(Boolean), {
    environment: { HOME: home, GPU_DEV_URL: url, GPU_DEV_USER: 'ada', ...environment },
    directory: '/nowhere',
    out: { write: (text) => out.push(text) },
    err: { write: (text) => err.push(text) },
    interrupted: new AbortController().signal,
  });
  return { exit, out: out.join(''), err: err.join('') };
}
const json = async (line: string, environment?: NodeJS.ProcessEnv): Promise<Json> => {
  const { exit, out, err } = await cli(`${line} --json`, environment);
  expect([exit, err]).toEqual([0, '']);
  return JSON.parse(out);
};

describe('the life of a reservation on the command line', () => {
  it('is reserved with its progress shown, shown, extended, given users and Jupyter, watched and cancelled', async () => {
    const reserved = await cli('reserve --type t4 --gpus 1 --hours 0.5 --name trial --disk data');
    expect(reserved.exit).toBe(0);
    expect(reserved.out).toMatch(
      /^Reserved 1 × t4 for 30 min: trial, [0-9a-f-]{36}\nRunning on t4-1 until (\S+ )?\d\d:\d\d\.\n {2}ssh -p \d+ \S+\n/,
    );
    expect(reserved.out).toContain('The cluster is simulated, so this server has no shell');
    expect(reserved.err).toMatch(/running\.serving · Running · ends at (\S+ )?\d\d:\d\d\n$/);

    const id = /[0-9a-f-]{36}/.exec(reserved.out)![0];
    expect((await cli('list')).out).toMatch(new RegExp(`^ID .*\n${id} +trial +1 × t4 +running\\.serving +ends in 30 min\n$`));
    expect((await json('show')).id).toBe(id);
    const shown = await cli('show --history');
    expect(shown.out).toMatch(/takes +cancel, extend, add_user, enable_jupyter\n/);
    expect(shown.out).toMatch(/1 +\S+ +reservation\.submitted +applied +queued +http\n/);

    expect((await cli('extend --hours 1.5')).out).toMatch(/^trial now ends at (\S+ )?\d\d:\d\d, in 2 h 00 min\.\n$/);
    const refused = await cli('extend --hours 100');
    expect([refused.exit, refused.out]).toEqual([4, '']);
    expect(refused.err).toMatch(/^gpu-dev: 2 h are granted and 100 h more would pass the limit of 48 h\. Ask for fewer hours/);

    expect((await cli('add-user octocat')).out).toBe('octocat may log in to trial in a moment.\n');
    expect((await cli('list --shared-with octocat', { GPU_DEV_USER: 'operator' })).out).toMatch(/ada .*ssh -p \d+ dev@/s);
    expect((await cli('list --shared-with nobody')).out).toBe('nobody was let into no live reservation.\n');
    expect((await cli('remove-user octocat')).out).toBe('octocat may not log in to trial any more, in a moment.\n');
    const jupyter = await cli(`jupyter on ${id}`);
    expect(jupyter.out).toMatch(/^https?:\/\/\S+\ntoken: [0-9a-f]{64}\n$/);
    expect((await json('jupyter show')).state).toBe('on');
    expect((await cli(`jupyter show ${id}`, { GPU_DEV_USER: 'eve' })).exit).toBe(3);
    expect((await cli(`cancel ${id}`, { GPU_DEV_USER: 'eve' })).err).toMatch(
      /^gpu-dev: There is no reservation \S+\. Check the id; gpu-dev list shows your reservations\.\n$/,
    );

    const { pod_name: pod } = (await http.world.reservation(id))!;
    const line = 'echo -n hello > /home/dev/a.txt; echo x > /home/dev/b/c.txt';
    await runInside(http.world.client, pod, ['sh', '-c', line]);
    expect((await cli('disk contents data')).err).toMatch(
      /^gpu-dev: What is on the disk data is not known: there is no snapshot of it yet\./,
    );
    const watching = cli(`watch ${id} --json`);
    expect((await cli('cancel')).out).toMatch(/^trial is ending; the disk data is being saved\. Follow it with: gpu-dev watch/);
    const watched = await watching;
    const states = watched.out
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as Json).state);
    expect([watched.exit, states.at(-1)]).toEqual([0, 'cancelled']);
    const onDisk = await cli('disk contents data');
    expect(onDisk.out).toMatch(
      /^SIZE {2}PATH\n5 B {3}a\.txt\n {6}b\/\n2 B {3}b\/c\.txt\n3 of 3 entries, 7 B in all, as of (\S+ )?\d\d:\d\d, in snap-\S+\.\n$/,
    );
    expect(await json('disk contents data --limit 1')).toMatchObject({
      total: 3,
      entries: [{ path: 'a.txt', kind: 'file', size: 5 }],
    });
    expect((await cli('disk contents data --limit 0')).exit).toBe(2);
    expect((await cli('disk contents data', { GPU_DEV_USER: 'eve' })).exit).toBe(3);
    expect((await cli('list')).out).toBe('ada has no live reservation.\n');
    expect((await json('list --all')).reservations).toHaveLength(1);
    expect((await cli('cancel')).exit).toBe(3);
    expect((await cli(`cancel ${id}`)).err).toMatch(
      /A reservation that is cancelled does not take cancel now; it takes nothing any more/,
    );
  });

  it('lists the choices when more than one could be meant', async () => {
    const user = { GPU_DEV_USER: 'carl' };
    const one = await json('reserve --type h100 --gpus 8 --hours 1 --no-persist --no-wait', user);
    const two = await json('reserve --type h100 --gpus 8 --hours 1 --no-persist --no-wait', user);
    const which = await cli('cancel', user);
    expect(which.exit).toBe(2);
    expect(which.err).toContain(one.id);
    expect(which.err).toContain(two.id);
    for (const { id } of [two, one]) expect((await cli(`cancel ${id}`, user)).exit).toBe(0);
  });

  it('Q20: asks to profile, and waits for a node that allows it though others are free', async () => {
    const user = { GPU_DEV_USER: 'emil' };
    const { id } = await json('reserve --type t4 --hours 1 --no-persist --profiling --node-label rack=r7 --no-wait', user);
    const { rows } = await http.world.db.query<Json>(
      `select snapshot #> '{context,request,nodeLabels}' as labels from actors where actor = $1`,
      [`reservation/${id}`],
    );
    expect(rows[0].labels).toEqual({ rack: 'r7', 'gpu.monitoring/profiling-dedicated': 'true' });
    expect((await json('avail t4')).gpus[0].free).toBeGreaterThan(0);
    expect((await json(`show ${id}`, user)).state).toBe('queued');
    expect((await cli('reserve --node-label rack', user)).exit).toBe(2);
    expect((await cli(`cancel ${id}`, user)).exit).toBe(0);
  });

  it('ends with 6 and the reason when the reservation ends while it is waited for', async () => {
    const user = { GPU_DEV_USER: 'dora' };
    await json('reserve --type t4 --hours 1 --disk shared', user);
    const failed = await cli('reserve --type t4 --hours 1 --disk shared --on-disk-busy fail', user);
    expect(failed.exit).toBe(6);
    expect(failed.err).toMatch(
      /gpu-dev: The reservation \S+ has ended \(failed\): The disk shared is in use by reservation \S+\. See gpu-dev show/,
    );
  });

  it('shows what is free', async () => {
    const free = await cli('avail');
    expect(free.out).toMatch(/^TYPE +FREE +OF +ON ONE NODE +WHOLE NODES +QUEUED +HOURS +WHAT\n/);
    expect((await json('avail H100')).gpus).toMatchObject([{ gpu_type: 'h100', total: 8 }]);
    expect((await cli('avail gtx')).err).toMatch(/^gpu-dev: There is no GPU type gtx\. There are a100, /);
  });
});

describe('for operators', () => {
  const database = (): NodeJS.ProcessEnv => databaseEnvironment(http.world.database.config);

  it('verifies every history, finds the one that was tampered with, and ends with 1', async () => {
    const made = await json('reserve --type t4 --hours 1 --no-persist', { GPU_DEV_USER: 'vera' });
    const all = await json('admin verify', database());
    expect(all).toMatchObject({ ok: true, problems: [] });
    expect(all.actors).toBeGreaterThan(5);
    expect((await cli(`admin verify ${made.id.slice(0, 20)}`, database())).out).toMatch(
      /^1 actor, \d+ events: every history folds to exactly what is stored\.\n$/,
    );
    await http.world.db.query(`update actors set snapshot = jsonb_set(snapshot, '{context,totalHours}', '7') where actor = $1`, [
      `reservation/${made.id}`,
    ]);
    const broken = await cli(`admin verify ${made.id}`, database());
    expect([broken.exit, broken.out]).toEqual([1, `reservation/${made.id}: History does not fold to the stored snapshot\n`]);
    await http.world.db.query(`update actors set snapshot = jsonb_set(snapshot, '{context,totalHours}', '1') where actor = $1`, [
      `reservation/${made.id}`,
    ]);
    expect((await cli('admin verify 00000000', database())).exit).toBe(3);
    expect((await cli('admin verify', { POSTGRES_HOST: '127.0.0.1', POSTGRES_PORT: '9' })).exit).toBe(5);
    expect((await cli('admin verify')).err).toMatch(/^gpu-dev: Which database\? Set POSTGRES_HOST/);
  });

  it('shows the dead letters', async () => {
    expect((await cli('admin dead-letters', { GPU_DEV_USER: 'operator' })).out).toBe('There are no open dead letters.\n');
    await http.world.send({ action: 'frobnicate', user_id: 'ada', password: 'sesame' });
    await http.world.until(
      'it is set aside',
      async () => (await json('admin dead-letters', { GPU_DEV_USER: 'operator' })).dead_letters.length === 1,
    );
    const shown = await cli('admin dead-letters', { GPU_DEV_USER: 'operator' });
    expect(shown.out).toMatch(/gpu_reservations \d+ +GPU_ACTION_UNKNOWN +open +The action "frobnicate" is unknown\n/);
    expect((await cli('admin dead-letters --json', { GPU_DEV_USER: 'operator' })).out).not.toContain('sesame');
  });
});

describe('what goes wrong', () => {
  it.each([
    ['frob', 2],
    ['reserve --hours none', 2],
    ['reserve --gpus 1.5', 2],
    ['reserve --disk a --no-persist', 2],
    ['reserve --image a --dockerfile b', 2],
    ['reserve --dockerfile nothing', 2],
    ['reserve --env 1=2', 2],
    ['reserve --type gtx', 2],
    ['reserve --type h100 --gpus 3', 2],
    ['reserve --user b;b', 2],
    ['extend', 2],
    ['jupyter maybe', 2],
    ['show nothing', 3],
    ['show 00000000', 3],
    ['list --url ftp://x', 2],
    ['--help', 0],
    ['reserve --help', 0],
    ['--version', 0],
  ])('`gpu-dev %s` ends with %i, in a sentence or two', async (line, exit) => {
    const ran = await cli(line);
    expect(ran.exit).toBe(exit);
    expect(ran.err).not.toMatch(/\n\s+at /);
    if (exit === 0) return expect(ran.out).not.toBe('');
    expect([ran.out, ran.err.trim().split('\n').length <= 2]).toEqual(['', true]);
    const told = await cli(`${line} --json`);
    expect([told.exit, told.out]).toEqual([exit, '']);
    expect(JSON.parse(told.err)).toMatchObject({ error: { exit, message: expect.any(String) } });
  });

  it('a service that is not there ends with 5 and what to do', async () => {
    const away = await cli('list', { GPU_DEV_URL: 'http://127.0.0.1:9' });
    expect(away).toEqual({
      exit: 5,
      out: '',
      err: 'gpu-dev: The service does not answer at http://127.0.0.1:9. Start it with npm start, or set GPU_DEV_URL to where it runs.\n',
    });
    const other = await cli('list', { GPU_DEV_URL: `http://127.0.0.1:${http.world.front.port}` });
    expect([other.exit, other.err.includes('is not gpu-dev')]).toEqual([5, true]);
  });

  it('a connection that drops on submit is tried once more, and makes one reservation (R5)', async () => {
    const dropping = await dropFirst(url);
    const ran = await cli('reserve --type h100 --gpus 1 --hours 1 --no-persist --no-wait --json', {
      GPU_DEV_URL: dropping.url,
      GPU_DEV_USER: 'rita',
    });
    expect(ran.exit).toBe(0);
    expect(dropping.connections()).toBeGreaterThan(1);
    const { reservations } = await json('list', { GPU_DEV_USER: 'rita' });
    expect(reservations.map((one: Json) => one.id)).toEqual([(JSON.parse(ran.out) as Json).id]);
    await dropping.close();
  });
});

describe('Ctrl-C', () => {
  it('while waiting leaves the reservation and says how to cancel it', async () => {
    const user = 'ivan';
    await json('reserve --type h100 --gpus 8 --hours 1 --no-persist --no-wait', { GPU_DEV_USER: 'first' });
    const child = start(['reserve', '--type', 'h100', '--gpus', '8', '--hours', '1', '--no-persist'], user);
    await http.world.until('it waits', async () => child.text().includes('queued.capacity'));
    child.process.kill('SIGINT');
    expect(await child.exit).toBe(130);
    const { reservations } = await json('list', { GPU_DEV_USER: user });
    expect(reservations).toHaveLength(1);
    expect(child.text()).toContain(`The reservation stays. Cancel it with: gpu-dev cancel ${reservations[0].id}`);
  });

  it('of a read ends it at once', async () => {
    const silent = await listening(createServer());
    const child = start(['list'], 'ivan', silent.url);
    await http.world.until('it has asked', async () => silent.connections() > 0);
    child.process.kill('SIGINT');
    expect([await child.exit, child.text()]).toEqual([130, '']);
    await silent.close();
  });
});

/** The tool as a process of its own, by the shim that npx runs. */
function start(
  args: string[],
  user: string,
  at = url,
): { process: ChildProcess; exit: Promise<number | null>; text: () => string } {
  const environment = { ...process.env, HOME: home, GPU_DEV_URL: at, GPU_DEV_USER: user };
  const child = spawn(process.execPath, [BIN, ...args], { env: environment, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk));
  const kill = child.kill.bind(child);
  // A terminal sends Ctrl-C to the whole group.
  child.kill = (signal) => (child.pid === undefined ? kill(signal) : process.kill(-child.pid, signal ?? 'SIGTERM'));
  return { process: child, exit: new Promise((resolve) => child.once('exit', resolve)), text: () => text };
}

/** A door before the service that cuts the first connection after the request went through. */
async function dropFirst(to: string) {
  const target = Number(new URL(to).port);
  const { connect } = await import('node:net');
  let first = true;
  return listening(
    createServer((socket: Socket) => {
      const onward = connect(target, '127.0.0.1');
      const cut = first;
      first = false;
      socket.pipe(onward);
      if (cut) onward.once('data', () => socket.destroy());
      else onward.pipe(socket);
      for (const one of [socket, onward]) one.on('error', () => {});
      socket.on('close', () => onward.destroy());
    }),
  );
}

async function listening(server: Server) {
  const sockets = new Set<Socket>();
  let connections = 0;
  server.on('connection', (socket) => {
    connections++;
    sockets.add(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    connections: () => connections,
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
