/** The service, and a way to the cluster that leads to another one: valid, and empty. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../../src/cli/program.ts';
import { type Cluster, createCluster } from '../../../src/simulated-cluster/cluster.ts';
import { type Front, serve } from '../../../src/simulated-cluster/http-server.ts';
import type { Program } from '../../crash/support/process.ts';
import { Scene, SERVICE } from '../../crash/support/scene.ts';
import { databaseEnvironment } from '../../support/database-environment.ts';
import { kubeconfigOf, NO_DELAYS } from '../../support/world.ts';

/** An address that leads to one cluster or the other, as a name or a load balancer does. */
class Address {
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  #target: number;

  constructor(target: number) {
    this.#target = target;
    this.#server = createServer((client) => {
      const server = connect(this.#target, '127.0.0.1');
      for (const [one, other] of [
        [client, server],
        [server, client],
      ] as const) {
        this.#open.add(one);
        one.on('error', () => other.destroy());
        one.on('close', () => {
          this.#open.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    });
  }
  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return (this.#server.address() as AddressInfo).port;
  }
  lead(target: number): void {
    this.#target = target;
    for (const socket of this.#open) socket.destroy();
  }
  async close(): Promise<void> {
    this.lead(0);
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

let scene: Scene;
let other: Cluster;
let otherFront: Front;
let address: Address;
let ours: number;
let kubeconfig: string;
let folder: string;
const ids: string[] = [];

beforeAll(async () => {
  scene = await Scene.start({ fleet: { h100: 1 } });
  ours = Number(new URL(scene.clusterUrl).port);
  other = createCluster({ now: Date.now(), seed: 4711, settings: { fleet: { h100: 1 }, delays: NO_DELAYS } });
  otherFront = await serve(other, 0);
  address = new Address(ours);
  folder = mkdtempSync(join(tmpdir(), 'gpu-dev-other-'));
  kubeconfig = join(folder, 'kubeconfig');
  writeFileSync(kubeconfig, JSON.stringify(kubeconfigOf(await address.listen())));
});
afterAll(async () => {
  await scene?.stop();
  await address?.close();
  await otherFront?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function started(environment: NodeJS.ProcessEnv = {}): Promise<{ program: Program; url: string }> {
  const program = scene.program(SERVICE, { KUBECONFIG: kubeconfig, ...environment });
  const ready = await program.ready();
  if (ready === null) throw new Error(program.log);
  return { program, url: `http://127.0.0.1:${ready['port']}` };
}

async function health(url: string): Promise<{ status: number; detail: string }> {
  const answer = await fetch(`${url}/health/ready`);
  return { status: answer.status, detail: ((await answer.json()) as { tracker: { detail: string } }).tracker.detail };
}

const states = async () => Promise.all(ids.map(async (id) => (await scene.reservation(id))?.['status']));

/** What was said of the ends of those that run. */
async function ends(): Promise<string[]> {
  const sql = `select event->>'type' as type from (select actor, event from history union all select actor, event from mailbox) as said
                where actor = any($1) and event->>'type' in ('pod.gone', 'pod.died')`;
  return (await scene.db.query<{ type: string }>(sql, [ids.map((id) => `reservation/${id}`)])).rows.map(({ type }) => type);
}

/** What stands on the other cluster of what we make. */
const touched = () => ['pods', 'services', 'secrets', 'configmaps'].map((kind) => other.world.store.count(kind));

async function uidOf(port: number, namespace = 'gpu-dev'): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${port}/api/v1/namespaces/${namespace}`);
  return ((await answer.json()) as { metadata: { uid: string } }).metadata.uid;
}

describe('S33: another cluster in the place of ours', () => {
  it('proves nothing while the service runs: it is told, nobody ends, nothing is done there, and all goes on when ours is back', async () => {
    const { program, url } = await started();
    const before = touched();
    for (let n = 0; n < 4; n += 1) {
      const id = crypto.randomUUID() as string;
      ids.push(id);
      const fields = { user_id: `user-${n}`, gpu_type: 'h100', gpu_count: 1, duration_hours: 1, disk_name: null };
      await scene.send({ action: 'create_reservation', reservation_id: id, ...fields });
    }
    for (const id of ids) await scene.reaches(id, 'running');
    expect((await health(url)).status).toBe(200);

    address.lead(otherFront.port);
    const doubt = await scene.until('its health tells', async () => {
      const { status, detail } = await health(url);
      return status === 503 && detail.includes('accept-cluster') && detail;
    });
    expect(doubt).toContain(await uidOf(ours));
    expect(doubt).toContain(await uidOf(otherFront.port));
    // Somebody cancels: their server is not there, and that proves nothing either.
    const cancelled = ids.pop()!;
    await scene.send({ action: 'cancel', reservation_id: cancelled });
    await scene.until('its removal was tried', async () => {
      const sql = `select last_error from effects where actor = $1 and type = 'pod.remove' and attempts > 0`;
      const { rows } = await scene.db.query<{ last_error: string }>(sql, [`reservation/${cancelled}`]);
      return rows[0]?.last_error?.includes('OtherCluster') === true;
    });
    expect(await states()).toEqual(['running', 'running', 'running']);
    expect(await ends()).toEqual([]);
    expect(touched()).toEqual(before);

    address.lead(ours);
    await scene.reaches(cancelled, 'cancelled');
    await scene.until('it is healthy', async () => (await health(url)).status === 200);
    expect(await states()).toEqual(['running', 'running', 'running']);
    expect(await ends()).toEqual([]);
    await program.kill();
  });

  it('is refused at a start, as is another namespace: both are named, with the command that accepts the other', async () => {
    address.lead(otherFront.port);
    const uids = [await uidOf(ours), await uidOf(otherFront.port)];
    for (const [environment, uid] of [
      [{}, uids[1]],
      [{ GPU_DEV_NAMESPACE: 'default' }, await uidOf(ours, 'default')],
    ] as const) {
      if (uid !== uids[1]) address.lead(ours);
      const program = scene.program(SERVICE, { KUBECONFIG: kubeconfig, ...environment });
      expect(await program.exited()).toEqual({ code: 1, signal: null });
      expect(program.log).toContain(uids[0]);
      expect(program.log).toContain(`gpu-dev admin accept-cluster --namespace-uid ${uid} --reason`);
      expect(program.log).not.toContain('    at ');
    }
    expect(await states()).toEqual(['running', 'running', 'running']);
    expect(await ends()).toEqual([]);
  });

  it('that is met only after the start proves nothing either', async () => {
    address.lead(1);
    const { program, url } = await started();
    address.lead(otherFront.port);
    await scene.until('its health tells', async () => (await health(url)).detail.includes('accept-cluster'));
    expect(await states()).toEqual(['running', 'running', 'running']);
    await program.kill();
  });

  it('is ours by the word of an operator, and what it lacks is gone then', async () => {
    address.lead(otherFront.port);
    const uid = await uidOf(otherFront.port);
    const cli = async (...words: string[]) => {
      const out: string[] = [];
      const exit = await run(words, {
        environment: { ...databaseEnvironment(scene.db.settings), GPU_DEV_USER: 'ada' },
        directory: '/nowhere',
        out: { write: (text) => out.push(text) },
        err: { write: (text) => out.push(text) },
        interrupted: new AbortController().signal,
      });
      return { exit, out: out.join('') };
    };
    expect(await cli('admin', 'accept-cluster', '--namespace-uid', 'gpu-dev', '--reason', 'x')).toMatchObject({ exit: 2 });
    expect(await cli('admin', 'accept-cluster', '--namespace-uid', uid, '--reason', ' ')).toMatchObject({ exit: 2 });
    const said = await cli('admin', 'accept-cluster', '--namespace-uid', uid, '--reason', 'the old one burnt down');
    expect(said).toMatchObject({ exit: 0, out: expect.stringContaining(`commands the namespace ${uid} now`) });
    const { program } = await started();
    for (const id of ids) await scene.reaches(id, 'failed');
    await program.kill();
    const { rows } = await scene.db.query(`select accepted_by, reason, server from cluster_identity where replaced_at is null`);
    expect(rows).toEqual([
      { accepted_by: 'ada', reason: 'the old one burnt down', server: expect.stringContaining('127.0.0.1') },
    ]);
  });
});
