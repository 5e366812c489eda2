/**
 * Crash points over the real API server: a server with a disk is asked for, runs, is extended and ends; another is cancelled while it is being
 * made. At each named point the service dies once in every state in which it comes there, with all its sockets. In the end everything is as
 * after a run in which nobody died, and the API server's own lists hold nothing that is left over.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CRASH_POINTS, type CrashPoint } from '../../actors/kernel/crash-points.ts';
import { expectClean, quiet } from '../crash/support/promises.ts';
import { databaseEnvironment } from '../support/database-environment.ts';
import { realCluster } from '../support/kubernetes/real-cluster.ts';
import { makeScratch, removeScratch } from '../support/scratch.ts';
import { expectNothingLeft } from './support/left-behind.ts';
import { MortalService } from './support/mortal-service.ts';
import { ServiceScene } from './support/service-scene.ts';

/** Points that share a run: who dies at one of them passes the others later. */
const RUNS: readonly (readonly CrashPoint[])[] = [
  ['turn.locked', 'effect.leased', 'intake.beforeCommit'],
  ['turn.stepped', 'effect.done', 'sweep.fired'],
  ['turn.beforeCommit', 'turn.afterCommit', 'effect.afterResult'],
];

const cluster = await realCluster({ own: true, fleet: { h100: 1 }, delays: { ready: 250 } });

/** What became of one reservation, but for what the moment of an observation decides. */
interface Fate {
  status: string;
  reason: string | null;
  /** Hours between its start and its end. */
  hours: number | null;
  events: string[];
  effects: string[];
  pods: number;
}

/** What the watch happens to see of a pod, and what was overtaken. */
const SEEN = /^pod\.(scheduled|waiting|started|ready|unready|died|unschedulable)$/;

describe.skipIf(cluster.missing)('a service that dies at a crash point, over a real API server', () => {
  let scene: ServiceScene;
  let way: Awaited<ReturnType<typeof cluster.faulty>>;
  let folder: string;
  let undisturbed: Fate[];
  let isUnfinished = false;
  let offset = 0;
  const started = Date.now();

  beforeAll(async () => {
    folder = makeScratch('mortal');
    scene = await ServiceScene.start(cluster);
    way = await cluster.faulty();
    undisturbed = (await run([])).fates;
    expect(undisturbed.map(({ status }) => status)).toEqual(['expired', 'cancelled']);
  });
  afterAll(async () => {
    await scene?.stop();
    await removeScratch(folder);
    console.info(`crash points over a real API server: ${Math.round((Date.now() - started) / 1_000)} s`);
  });

  /** Both lives, with a death at each first passage. */
  async function run(points: readonly CrashPoint[]): Promise<{ fates: Fate[]; struck: Map<CrashPoint, Set<string>> }> {
    const struck = new Map(points.map((point) => [point, new Set<string>()]));
    let focus = '';
    const diesAt = async (point: CrashPoint): Promise<boolean> => {
      const passed = struck.get(point);
      if (passed === undefined || focus === '') return false;
      const state = await stateOf(focus);
      if (passed.has(state)) return false;
      passed.add(state);
      return true;
    };
    const service = new MortalService(
      {
        database: scene.db.settings,
        proxy: way.proxy,
        environment: {
          ...databaseEnvironment(scene.db.settings),
          KUBECONFIG: way.kubeconfig,
          GPU_DEV_NAMESPACE: cluster.namespace,
          CLUSTER: 'simulated',
          GPU_DEV_HOME: folder,
        },
        clock: () => new Date(Date.now() + offset),
        diesAt,
      },
      scene.db,
    );
    service.start();
    try {
      await scene.knows(1);
      const fates: Fate[] = [];
      for (const live of [whole, cut]) {
        const id = crypto.randomUUID() as string;
        focus = id;
        await live(id);
        await quiet(scene);
        focus = '';
        fates.push(await fateOf(id));
      }
      await expectClean(scene);
      await expectNothingLeft(scene);
      expect(service.deaths).toBe([...struck.values()].reduce((sum, states) => sum + states.size, 0));
      return { fates, struck };
    } finally {
      await service.stop();
    }
  }

  async function whole(id: string): Promise<void> {
    await scene.submit({ reservation_id: id, user_id: `user-${id}`, disk_name: 'home', duration_hours: 1 });
    const { expires_at: first } = await scene.reaches(id, 'running');
    await scene.send({ action: 'extend', reservation_id: id, extension_hours: 1, operation_id: `more-${id}` });
    await scene.until('it is extended', async () => {
      const row = await scene.reservation(id);
      return row.status === 'running' && row.expires_at > first;
    });
    for (const minutes of [121, 5]) {
      offset += minutes * 60_000;
      await scene.until('that is noticed', async () => {
        const row = await scene.reservation(id);
        return row.substate === 'grace' || row.status !== 'running';
      });
    }
    await scene.reaches(id, 'expired');
  }

  async function cut(id: string): Promise<void> {
    await scene.submit({ reservation_id: id, user_id: `user-${id}`, disk_name: null });
    await scene.reaches(id, 'provisioning');
    await scene.cancel(id);
    await scene.reaches(id, 'cancelled');
  }

  async function stateOf(id: string): Promise<string> {
    const { rows } = await scene.db.query<{ value: unknown }>(`select snapshot->'value' as value from actors where actor = $1`, [
      `reservation/${id}`,
    ]);
    return JSON.stringify(rows[0]?.value ?? 'unborn');
  }

  async function fateOf(id: string): Promise<Fate> {
    const row = await scene.reservation(id);
    const actor = `reservation/${id}`;
    const { rows: effects } = await scene.db.query<{ type: string; status: string }>(
      `select type, status from effects where actor = $1 order by type, status`,
      [actor],
    );
    const hours = row.launched_at === null ? null : (row.expires_at.getTime() - row.launched_at.getTime()) / 3_600_000;
    return {
      status: row.status,
      reason: row.failure_reason,
      hours: row.status === 'cancelled' || hours === null ? null : Math.round(hours * 1_000) / 1_000,
      // Whether its pod had been made when it was cancelled is a matter of moments.
      events: (await scene.history(id)).filter(
        (type) => !SEEN.test(type) && !(row.status === 'cancelled' && type === 'pod.created'),
      ),
      effects: effects.map(({ type, status }) => `${type} ${status}`),
      pods: scene.watch.ever.get(id)?.size ?? 0,
    };
  }

  it('shares out all points among its runs', () => {
    expect(RUNS.flat().sort()).toEqual([...CRASH_POINTS].sort());
  });

  it.each(RUNS.map((points) => ({ points, names: points.join(', ') })))(
    '$names: everything is as if it had lived, and nothing is left over',
    async ({ points }) => {
      // A try that failed may have been compared with a life whose moments were rare.
      if (isUnfinished) undisturbed = (await run([])).fates;
      isUnfinished = true;
      const { fates, struck } = await run(points);
      for (const [point, states] of struck) expect(states.size, point).toBeGreaterThan(0);
      expect(fates[0]).toEqual(undisturbed[0]);
      expect(fates[1]).toEqual(undisturbed[1]);
      isUnfinished = false;
      console.info([...struck].map(([point, states]) => `${point} ${states.size}`).join(', '));
    },
  );
});
