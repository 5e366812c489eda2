/** What must hold at the end, whatever was killed on the way. */
import { expect } from 'vitest';
import { verifyAll } from '../../../actors/kernel/fold.ts';
import { gpuDevKinds } from '../../../actors/kinds.ts';
import type { Scene } from './scene.ts';

/** The kinds without their providers: enough to fold histories. */
const KINDS = new Map(gpuDevKinds({} as never).map((kind) => [kind.kind, kind]));

/** What is asked of a scene here. */
type Looked = Pick<Scene, 'db' | 'until'> & { watch: Pick<Scene['watch'], 'now'> };

/** Wait until nothing is under way: no waiting mail, no pending effect. */
export async function quiet(scene: Pick<Scene, 'db' | 'until'>): Promise<void> {
  await scene.until('nothing is under way', async () => {
    const { rows } = await scene.db.query<{ left: number }>(
      `select (select count(*) from mailbox)::int + (select count(*) from effects where status = 'pending')::int
            + (select count(*) from pgmq.q_gpu_reservations)::int as left`,
    );
    return rows[0]!.left === 0;
  });
}

/** Every history folds to its snapshot; nothing is held by what has ended; no effect has two outcomes; nothing became a dead letter. */
export async function expectClean(scene: Looked): Promise<void> {
  await quiet(scene);
  for await (const result of verifyAll(scene.db, KINDS)) expect(result, result.actor).toMatchObject({ ok: true });
  const { rows } = await scene.db.query<{ what: string; n: number }>(
    `select 'slots' as what, count(*)::int as n from gpu_slots where reservation_id is not null
     union all select 'requests', count(*)::int from capacity_requests
     union all select 'names', count(*)::int from domain_mappings
     union all select 'disks in use', count(*)::int from disks where in_use
     union all select 'quarantined', count(*)::int from actors where quarantined_at is not null
     union all select 'deadlines', count(*)::int from deadlines d join actors a using (actor) where a.status = 'done'
     union all select 'outcomes without an effect', count(*)::int from history h where h.sender = 'effect' and h.key like 'effect:%'
        and not exists (select 1 from effects e where 'effect:' || e.effect_id = h.key and e.status in ('done', 'failed'))
     union all select 'gaps', count(*)::int from (select max(seq) <> count(*) as gap from history group by actor) g where gap`,
  );
  const { rows: letters } = await scene.db.query('select source, actor, key, code, reason, body from dead_letters limit 10');
  expect(letters).toEqual([]);
  expect(rows.filter((row) => row.n > 0)).toEqual([]);
  for (const [id, pods] of scene.watch.now) expect([...pods], `pods of ${id}`).toEqual([]);
}

/** How often an event of this type was applied to the reservation. */
export async function timesApplied(scene: Scene, id: string, type: string): Promise<number> {
  const { rows } = await scene.db.query<{ n: number }>(
    `select count(*)::int as n from history where actor = $1 and event->>'type' = $2 and outcome = 'applied'`,
    [`reservation/${id}`, type],
  );
  return rows[0]!.n;
}
