import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../../src/cli/program.ts';
import { adminScene, type AdminScene } from './admin-scene.ts';
import { type HttpWorld, type Json, startHttp } from './support.ts';

let http: HttpWorld;
let url: string;
let admin: AdminScene;
const home = mkdtempSync(join(tmpdir(), 'gpu-dev-cli-'));
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1, a100: 1 } }, { cluster: 'simulated' });
  await http.app.listen({ host: '127.0.0.1', port: 0 });
  url = `http://127.0.0.1:${(http.app.server.address() as AddressInfo).port}`;
  admin = adminScene(http);
});
afterAll(async () => {
  await http?.stop();
  rmSync(home, { recursive: true });
});

/** Run a command line in this process, as the operator unless another user is named. */
async function cli(args: readonly string[], user = 'operator'): Promise<{ exit: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const exit = await run(args, {
    environment: { HOME: home, GPU_DEV_URL: url, GPU_DEV_USER: user },
    directory: '/nowhere',
    out: { write: (text) => out.push(text) },
    err: { write: (text) => err.push(text) },
    interrupted: new AbortController().signal,
  });
  return { exit, out: out.join(''), err: err.join('') };
}
const say = (line: string, reason?: string) =>
  cli(['admin', ...line.split(' '), ...(reason === undefined ? [] : ['--reason', reason])]);
const json = async (line: string, reason?: string): Promise<Json> => {
  const { exit, out, err } = await say(`${line} --json`, reason);
  expect([exit, err]).toEqual([0, '']);
  return JSON.parse(out);
};

describe('an operator on the command line', () => {
  it('looks at dead letters, replays and drops them', async () => {
    expect((await say('dead-letters')).out).toBe('There are no open dead letters.\n');
    for (const step of ['waltz', 'tango']) await http.world.send({ action: step });
    await http.world.until('both are set aside', async () => (await admin.get('/dead-letters')).body.dead_letters.length === 2);
    const [second, first] = (await json('dead-letters --code GPU_ACTION_UNKNOWN')).dead_letters;
    expect((await say(`dead-letter ${first.id}`)).out).toContain('waltz');
    expect((await cli(['admin', 'drop', String(first.id)])).exit).toBe(2);
    expect((await cli(['admin', 'drop', String(first.id), '--reason', 'nobody dances'])).out).toBe(
      `${first.id} was dropped by operator: nobody dances.\n`,
    );
    const replayed = await say(`replay ${second.id}`);
    expect(replayed.out).toMatch(new RegExp(`^${second.id} was replayed by operator as gpu_reservations/\\d+\\.\n$`));
    // It is as wrong as it was before, and is set aside again.
    await http.world.until('it is back', async () => (await admin.get('/dead-letters')).body.dead_letters.length === 1);
    expect((await say(`replay ${second.id}`)).exit).toBe(4);
    expect((await say('replay many')).exit).toBe(2);
    expect((await json('dead-letters --all')).dead_letters).toHaveLength(3);
    expect((await cli(['admin', 'dead-letters'], 'eve')).exit).toBe(4);
  });

  it('begins and ends maintenance', async () => {
    expect((await say('maintenance')).out).toBe('There is none.\n');
    const begun = await json('maintenance begin t4 --until 2126-01-01T00:00Z --allow ops-1 ops-2', 'new drivers');
    expect(begun).toMatchObject({ gpu_type: 't4', in_force: true, allowed_users: ['ops-1', 'ops-2'] });
    expect((await say('maintenance list')).out).toMatch(/t4 +in force .*ops-1, ops-2 +0 +new drivers/);
    expect((await say('maintenance begin t4 --from tomorrow', 'x y z')).exit).toBe(2);
    expect((await say('maintenance end t4')).out).toBe('t4 serves everybody again.\n');
    expect((await json('maintenance list')).maintenance).toEqual([]);
  });

  it('drains a node, sees who is on it, extends and cancels for them, and releases what does not answer', async () => {
    const { body } = await admin.reserve('ann', { name: 'trial' });
    const { node_name: node } = await http.world.reaches(body.id, 'running');
    expect((await say('nodes t4')).out).toMatch(new RegExp(`${node} +t4 +1 of \\d+ +open +${body.id.slice(0, 8)} \\(ann\\)`));
    expect((await say(`extend ${body.id} --hours 1`)).out).toMatch(/^trial of ann now ends at /);
    const drained = await say(`drain ${node}`, 'a fan is loud');
    expect(drained.out).toMatch(new RegExp(`^${node} gets nothing new: a fan is loud\nRESERVATION .*\n${body.id} +ann +running`));
    expect((await json('nodes')).nodes.find((each: Json) => each.node === node).drained.reason).toBe('a fan is loud');
    expect((await say(`undrain ${node}`)).out).toBe(`${node} is given on again.\n`);

    const asked = await say(`release ${body.id}`, 'the rack has no power');
    expect(asked.exit).toBe(4);
    expect(asked.err).toContain('1 slots of t4');
    expect(asked.err).toContain(`--confirm ${body.id}`);
    const released = await json(`release ${body.id} --confirm ${body.id}`, 'the rack has no power');
    expect(released).toMatchObject({ freed: true, slots: [{ node }] });
    await http.world.reaches(body.id, 'failed');

    const other = (await admin.reserve('ann', { name: 'other' })).body.id;
    await http.world.reaches(other, 'running');
    expect((await say(`cancel ${other}`)).out).toBe('other of ann is ending.\n');
    await http.world.reaches(other, 'cancelled');
  });

  it('looks at what does not succeed, and tries it now', async () => {
    expect((await say('effects --failed')).out).toBe('There are none.\n');
    expect((await say('quarantine')).out).toBe('No actor is set aside.\n');
    expect((await say('retry disk/none:1:0')).exit).toBe(3);
    expect((await say(`unquarantine reservation/${randomUUID()}`)).exit).toBe(3);
  });
});
