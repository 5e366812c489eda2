// Whole lives with a name in DNS and a way to Jupyter, a third of them cancelled at any moment and a third with a process killed in the middle:
// by moto's own lists nothing is left of any. GPU_DEV_CYCLES=100 for the long one.
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serveDomain } from '../../persistence/names.ts';
import { createClient } from '../../src/providers/kubernetes/client.ts';
import { JointReality } from '../../src/providers/joint-reality.ts';
import { KubernetesReality } from '../../src/providers/kubernetes/reality.ts';
import type { Program } from '../crash/support/process.ts';
import { Scene } from '../crash/support/scene.ts';
import { Comparisons } from '../integration/reality/scene.ts';
import { startMoto } from '../support/moto.ts';
import { BadDay } from './support/bad-day.ts';
import { CLUSTER, DOMAIN, type Domain, domainPorts, makeDomain, namesEnvironment } from './support/domain.ts';
import { awsEnvironment } from './support/ebs.ts';

const CYCLES = Number(process.env['GPU_DEV_CYCLES'] ?? 6);
const AT_ONCE = 4;
const NODES = 6;
/** A machine with other work to do is slow to start processes. */
const PATIENCE_MS = 120_000;
const moto = await startMoto();

describe.skipIf(moto.missing)('names and ways to Jupyter', () => {
  let scene: Scene;
  let domain: Domain;
  let day: BadDay;
  let workers: Program[];
  let kills = 0;

  const worker = () =>
    scene.worker({
      ...awsEnvironment(day.url, CLUSTER),
      ...namesEnvironment(domain),
      JUPYTER_PLACES: '1000-1199',
    });

  beforeAll(async () => {
    domain = await makeDomain(moto.url);
    day = await BadDay.before(moto.url);
    scene = await Scene.start({ fleet: { h100: NODES } });
    await serveDomain(scene.db, DOMAIN);
    // The nodes are machines of EC2.
    for (let node = 1; node <= NODES; node++)
      await fetch(`${scene.clusterUrl}/api/v1/nodes/h100-${node}`, {
        method: 'PATCH',
        headers: { 'content-type': 'application/merge-patch+json' },
        body: JSON.stringify({ spec: { providerID: `aws:///us-east-2a/${domain.instances[node % domain.instances.length]}` } }),
      });
    workers = [worker(), worker()];
    await Promise.all(workers.map((each) => each.ready()));
    await scene.until('the fleet is known', async () => (await scene.db.query('select 1 from nodes')).rowCount === NODES);
  });
  afterAll(async () => {
    await scene?.stop();
    await day?.stop();
  });

  const send = (id: string, action: string, fields: object = {}) => scene.send({ action, reservation_id: id, ...fields });
  const published = (id: string) =>
    scene.until(
      `${id} is published`,
      async () => {
        const { rowCount } = await scene.db.query(
          `select 1 from domain_mappings m join alb_target_groups g using (reservation_id)
          where reservation_id = $1 and m.published_at is not null and g.published_at is not null`,
          [id],
        );
        return rowCount === 1;
      },
      PATIENCE_MS,
    );
  const reaches = async (id: string, status: string) => {
    const row = await scene.until(
      `${id} has ended`,
      async () => {
        const found = await scene.reservation(id);
        return found?.['reservation_ended'] == null ? null : found;
      },
      PATIENCE_MS,
    );
    expect(row['status'], `${id}: ${row['failure_reason']}`).toBe(status);
  };
  const killOne = async () => {
    const victim = Math.floor(Math.random() * workers.length);
    const { [victim]: program } = workers;
    await program!.kill();
    kills++;
    workers[victim] = worker();
    await workers[victim]!.ready();
  };

  /** @returns the id of one that lives on to its end */
  async function live(number: number): Promise<string | null> {
    const id = crypto.randomUUID() as string;
    await send(id, 'create_reservation', {
      // Each of another person: nobody may have so many.
      user_id: `user-${number}`,
      gpu_type: 'h100',
      gpu_count: 1,
      disk_name: null,
      duration_hours: 1,
      name: `cycle-${number}`,
      jupyter_enabled: true,
    });
    if (number % 3 === 0) {
      await published(id);
      return id;
    }
    await pause(Math.random() * 2_500);
    if (number % 3 === 1) await killOne();
    await send(id, 'cancel');
    await reaches(id, 'cancelled');
    return null;
  }

  it(
    `N1 N2 N3 N12: ${CYCLES} lives leave no name, no rule and no target group`,
    async () => {
      // Some calls are throttled, some are done and never answered.
      day.fate = (_action, number) => (number % 29 === 0 ? 'throttled' : number % 31 === 0 ? 'unanswered' : 'done');
      const waiting = Array.from({ length: CYCLES }, (_, number) => number);
      const alive: string[] = [];
      const guest = async () => {
        for (let number = waiting.shift(); number !== undefined; number = waiting.shift()) {
          const id = await live(number);
          if (id !== null) alive.push(id);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, guest));
      expect(kills).toBeGreaterThanOrEqual(Math.floor(CYCLES / 3));
      // Those that live have their names, each one, and nobody else has any.
      const standing = async () => [
        (await domain.records()).length,
        (await domain.rules()).length,
        (await domain.groups()).length,
      ];
      let last: number[] = [];
      await scene
        .until(
          'only the living have names and ways',
          async () => {
            last = await standing();
            return String(last) === String([alive.length * 2, alive.length, alive.length]);
          },
          PATIENCE_MS,
        )
        .catch((error: Error) => Promise.reject(new Error(`${error.message}: ${last} of ${alive.length}`)));
      const { rows: places } = await scene.db.query<{ place: number }>('select place from alb_target_groups order by place');
      expect(new Set(places.map(({ place }) => place)).size).toBe(alive.length);

      scene.advance(61);
      await scene.until('the time of all is over', async () => {
        const { rowCount } = await scene.db.query(`select 1 from reservations where status = 'running' and substate <> 'grace'`);
        return rowCount === 0;
      });
      scene.advance(3);
      for (const id of alive) await reaches(id, 'expired');
      await scene.until(
        'all effects have ended',
        async () => (await scene.db.query("select 1 from effects where status = 'pending'")).rowCount === 0,
        PATIENCE_MS,
      );
      // What a killed process had under way may have come late: the comparison takes it away.
      const client = createClient({ kubeconfig: `${scene.folder}/kubeconfig` });
      const reality = new JointReality(new KubernetesReality({ client }), domainPorts(domain, moto.url).reality);
      const comparisons = new Comparisons(scene.db, client, { reality, graceMs: 0 });
      expect((await comparisons.compare()).unanswered).toEqual([]);
      expect(await domain.left()).toEqual([]);
      const { rows } = await scene.db.query(
        `select reservation_id, fqdn from domain_mappings union all select reservation_id, domain_name from alb_target_groups`,
      );
      expect(rows).toEqual([]);
    },
    120_000 + CYCLES * 10_000,
  );
});
