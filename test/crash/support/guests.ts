/** Many reservations at once, driven along the main path. */
import { randomUUID } from 'node:crypto';
import type { Scene } from './scene.ts';

/** Ask for `count` reservations of one GPU, each of another user with a disk of their own. @returns their ids. */
export async function book(scene: Scene, count: number, extra: object = {}): Promise<string[]> {
  const ids = Array.from({ length: count }, () => randomUUID());
  for (const [index, id] of ids.entries()) {
    await persist(() =>
      scene.send({
        action: 'create_reservation',
        reservation_id: id,
        user_id: `user-${index}`,
        gpu_type: 'h100',
        gpu_count: 1,
        duration_hours: 1,
        disk_name: 'default',
        ...extra,
      }),
    );
  }
  return ids;
}

/** Cancel one as its user would. */
export async function cancel(scene: Scene, id: string): Promise<void> {
  await persist(() => scene.send({ action: 'cancel', reservation_id: id }));
}

/** Statuses of these, in their order. */
export async function statuses(scene: Scene, ids: readonly string[]): Promise<string[]> {
  const { rows } = await scene.db.query<{ id: string; status: string }>(
    'select reservation_id as id, status::text as status from reservations where reservation_id = any($1::text[])',
    [ids],
  );
  const known = new Map(rows.map((row) => [row.id, row.status]));
  return ids.map((id) => known.get(id) ?? 'unknown');
}

/** Wait until each is in one of these states. */
export async function allReach(scene: Scene, ids: readonly string[], ...states: string[]): Promise<void> {
  await scene.until(`${ids.length} are ${states.join(' or ')}`, async () =>
    (await statuses(scene, ids)).every((status) => states.includes(status)),
  );
}

/** Wait until at least `count` of them are in one of these states. @returns those that are. */
export async function someReach(scene: Scene, ids: readonly string[], count: number, ...states: string[]): Promise<string[]> {
  return scene.until(`${count} of ${ids.length} are ${states.join(' or ')}`, async () => {
    const known = await statuses(scene, ids);
    const there = ids.filter((_id, index) => states.includes(known[index]!));
    return there.length >= count ? there : null;
  });
}

/** A producer that tries again while the database is away. */
async function persist(work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (attempt >= 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
