import type { AddressInfo } from 'node:net';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { releaseEndedHolders } from '../../../actors/reality/ended-holders.ts';
import type { Reality } from '../../../actors/reality/ports.ts';
import { Reconciler } from '../../../actors/reality/reconciler.ts';
import type { Message } from '../../../persistence/mailbox.ts';
import { run } from '../../../src/cli/program.ts';
import { KubernetesReality } from '../../../src/providers/kubernetes/reality.ts';
import { cancel, running } from '../gpu-pool/support.ts';
import { type HttpWorld, startHttp } from '../http/support.ts';
import { marks, Planted } from './scene.ts';

let http: HttpWorld;
let url: string;
const reconcilers: Reconciler[] = [];
/** Comparisons begun by each of the processes. */
const begun = [0, 0];

/** A process that compares: the n-th of two. */
function start(n: 0 | 1): Reconciler {
  const { db, kernel, client, errors } = http.world;
  const honest = new KubernetesReality({ client });
  const counting: Reality = {
    list: (kind) => {
      if (kind === 'Pod') begun[n]! += 1;
      return honest.list(kind);
    },
    remove: (object) => honest.remove(object),
    isGone: (kind, name) => honest.isGone(kind, name),
    accessOf: (server, options) => honest.accessOf(server, options),
    podOf: (server) => honest.podOf(server),
  };
  const onError = (error: unknown) => void errors.push(error);
  const settings = { everyMs: 3_600_000, graceMs: 0, leaseSeconds: 1 };
  const reconciler = new Reconciler({ db, kernel, reality: counting, ...settings, onError });
  reconcilers.push(reconciler);
  reconciler.start();
  return reconciler;
}

async function cli(line: string): Promise<{ exit: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const exit = await run(line.split(' '), {
    environment: { GPU_DEV_URL: url, GPU_DEV_USER: 'operator' },
    directory: '/nowhere',
    out: { write: (text) => out.push(text) },
    err: { write: (text) => err.push(text) },
    interrupted: new AbortController().signal,
  });
  return { exit, out: out.join(''), err: err.join('') };
}

beforeAll(async () => {
  http = await startHttp({
    fleet: { t4: 1 },
    kernel: { listen: { reality: () => void reconcilers.map((each) => each.wake()) } },
    tracker: { onServers: async () => undefined },
  });
  await http.app.listen({ host: '127.0.0.1', port: 0 });
  url = `http://127.0.0.1:${(http.app.server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  await Promise.all(reconcilers.map((each) => each.stop()));
  await http?.stop();
});

describe('the comparison of database and cluster', () => {
  it('is made at the start, by one process at a time, and by the other when that one goes', async () => {
    const first = start(0);
    await http.world.until('it was made at the start', async () => begun[0] === 1);
    start(1);
    const { body } = await http.post('/v1/admin/reconciliations', { dry_run: true });
    await http.world.until('it is done', async () => {
      const answer = await http.get(`/v1/admin/reconciliations/${body.id}`);
      return answer.body.status === 'done';
    });
    expect(begun).toEqual([2, 0]);
    await first.stop();
    await http.world.until('the other took over, and began at once', async () => begun[1] === 1);
    expect(begun[0]).toBe(2);
  });

  it('is asked for on the command line: dry, it tells and changes nothing; then it does what it told', async () => {
    const { world } = http;
    const id = await running(world);
    await cancel(world, id);
    const here = new Planted(world.client);
    await here.put('Secret', 'left-over', marks.server(id));
    await here.put('Service', 'nobody-knows', marks.server(randomUUID()));

    await cli('admin reconcile');
    await here.put('ConfigMap', 'left-later', marks.server(id));
    const dry = await cli('admin reconcile --dry-run');
    expect(dry.exit).toBe(0);
    expect(dry.out).toMatch(/^KIND +NAME +OF +FINDING +SINCE +ACTION +WHY\n/);
    expect(dry.out).toMatch(
      new RegExp(
        `ConfigMap +left-later +reservation/${id} +ended +0 s ago +would remove +Its reservation has ended \\(cancelled\\)`,
      ),
    );
    expect(dry.out).toMatch(/Service +nobody-knows .* unknown .* reported +Our database does not know its id/);
    expect(await here.has('ConfigMap', 'left-later')).toBe(true);
    expect(await here.has('Secret', 'left-over')).toBe(false);

    const done = JSON.parse((await cli('admin reconcile --json')).out);
    expect(done).toMatchObject({ status: 'done', dry_run: false, asked_by: 'operator', unanswered: [] });
    expect(await here.has('ConfigMap', 'left-later')).toBe(false);
    expect(await here.has('Service', 'nobody-knows')).toBe(true);
  });

  it('D8: a disk that is held for a reservation that has ended is free again, also if nobody has told it so', async () => {
    const { world } = http;
    const id = await running(world, { disk_name: 'locked' });
    await cancel(world, id);
    const diskIs = (state: string, holder: string | null) =>
      world.until(`the disk is ${state}`, async () => {
        const { rows } = await world.db.query<{ disk_id: string; state: string; reservation_id: string | null }>(
          `select disk_id, state, reservation_id from disks where disk_name = 'locked'`,
        );
        return rows[0]?.state === state && rows[0].reservation_id === holder ? rows[0].disk_id : null;
      });
    const disk = await diskIs('idle', null);
    // What an operator's replay of an old letter does: it asks for the disk once more, for one who will never give it back.
    const event = { type: 'disk.acquire', reservationId: id, owner: 'ann' };
    await world.kernel.post([{ actor: `disk/${disk}`, key: 'an-old-letter', event, sender: 'operator' }]);
    await diskIs('held', id);
    // What has ended a moment ago is on its way.
    const post = (messages: readonly Message[]) => world.kernel.post(messages);
    expect(await releaseEndedHolders(world.db, post)).toEqual([]);
    await world.db.query(`update actors set updated_at = updated_at - interval '30 seconds' where actor = $1`, [
      `reservation/${id}`,
    ]);
    await world.db.query(`update disks set last_updated = last_updated - interval '30 seconds' where disk_id = $1`, [disk]);
    for (const each of reconcilers) each.wake();
    await diskIs('idle', null);
    // One who lives keeps what is his, however long nothing happens.
    const living = await running(world, { disk_name: 'locked' });
    await world.db.query(`update disks set last_updated = last_updated - interval '30 days' where disk_id = $1`, [disk]);
    expect(await releaseEndedHolders(world.db, post)).toEqual([]);
    await cancel(world, living);
  });

  it('N16: leaves its findings in the one store, where whoever answers requests reads and counts them', async () => {
    const { body } = await http.get('/v1/admin/findings');
    expect(body.findings).toContainEqual(
      expect.objectContaining({ kind: 'Service', name: 'nobody-knows', verdict: 'unknown', done: 'reported' }),
    );
    expect(body.last_run).toMatchObject({ status: 'done', dry_run: false });
    const metrics = (await http.get('/metrics')).body as string;
    expect(metrics).toContain('gpu_dev_reality_findings{kind="Service",verdict="unknown"} 1');
  });

  it('says so when what was asked for cannot be, and the next one is made all the same', async () => {
    const { world } = http;
    await world.simulate('/faults', { kind: 'error', status: 500, path: 'secrets\\?' });
    const cut = await cli('admin reconcile');
    expect(cut.out).toMatch(/No answer, so nothing is said of it: Secret: listing Secrets: 500/);
    await world.clearFaults();
    expect((await cli('admin reconcile')).out).not.toContain('No answer');
    expect((await http.get(`/v1/admin/reconciliations/${randomUUID()}`)).body).toMatchObject({ code: 'GPU_NOT_FOUND' });
  });
});
