/** Births come by the queue, and one message may bear three actors: deaths at every point leave each of them born once. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { CRASH_POINTS, type CrashPoint } from '../../actors/kernel/crash-points.ts';
import { begin, KINDS } from '../model/drive.ts';
import { RESERVATION_SCENARIOS } from '../model/reservation.cases.ts';
import { reservationPromises } from '../model/reservation.promises.ts';
import { differences, dumpOf } from './dump.ts';
import { Run } from './run.ts';
import { Transitions } from './transitions.ts';

const idOf = (number: number) => `019cae50-0000-7000-8000-00000000000${number}`;
const GANG = '019cae50-0000-7000-8000-0000000000aa';
const { dockerfile } = JSON.parse(
  readFileSync(new URL('../fixtures/messages/valid/create-dockerfile.json', import.meta.url), 'utf8'),
) as { dockerfile: string };

const create = (number: number, wish: Record<string, unknown>) => ({
  action: 'create_reservation',
  reservation_id: idOf(number),
  user_id: 'ada',
  gpu_type: 'h100',
  gpu_count: 8,
  duration_hours: 1,
  name: `otter-${number}`,
  ...wish,
});
const gangOf = (index: number) => ({ is_multinode: true, master_reservation_id: GANG, node_index: index, total_nodes: 2 });
/** All of these go in together. */
const PLAIN = [
  create(1, { disk_name: null }),
  create(2, { disk_name: 'vision' }),
  create(3, { disk_name: 'vision', on_disk_busy: 'fail' }),
  create(4, { disk_name: 'speech', on_disk_busy: 'fail' }),
];
/** Among these some must be refused, so they go in one by one. */
const MIXED = [
  create(5, { disk_name: null, dockerfile }),
  create(5, { disk_name: null, gpu_count: 3 }),
  { action: 'reboot', reservation_id: idOf(1) },
  create(6, { disk_name: 'gang-0', dockerfile, ...gangOf(0) }),
  create(7, { disk_name: 'gang-1', dockerfile, ...gangOf(1) }),
];
const DISKS = [
  { action: 'create_disk', user_id: 'ada', disk_name: 'empty', operation_id: 'op-1' },
  { action: 'create_disk', user_id: 'ada', disk_name: 'empty', operation_id: 'op-2' },
  { action: 'clone_disk', user_id: 'ada', source_disk: 'empty', target_disk: 'copy', operation_id: 'op-3' },
];

/** The database after these births, with the names of disks where their ids were: a door draws them anew each time. */
async function bearAll(points: readonly CrashPoint[]) {
  const run = await Run.begin(points, []);
  try {
    const opened = { type: 'pool.opened', gpuType: 'h100' } as { type: string };
    await run.post([{ actor: 'gpu-pool/h100', key: 'opened', event: opened, sender: 'service' }]);
    await run.enqueue('disk_operations', DISKS);
    await run.enqueue('gpu_reservations', PLAIN);
    await run.settle();
    await run.enqueue('gpu_reservations', MIXED);
    await run.settle();
    const { rows } = await run.db.query<{ id: string; name: string }>('select disk_id as id, disk_name as name from disks', []);
    const named = (line: string) => rows.reduce((known, { id, name }) => known.replaceAll(id, `disk-${name}`), line);
    const dump = new Map([...(await dumpOf(run.db))].map(([table, lines]) => [table, lines.map(named).sort()]));
    return { dump, strokes: run.strokes, struck: run.struck, transitions: await Transitions.of(run.db) };
  } finally {
    await run.end();
  }
}

it('whatever the queues bear is born once, with all its friends', async () => {
  const undisturbed = await bearAll([]);
  const { dump, strokes, struck, transitions } = await bearAll(CRASH_POINTS);
  expect(differences(undisturbed.dump, dump)).toEqual([]);
  expect(strokes).toBeGreaterThan(8);

  const atTheDoor = struck.get('intake.beforeCommit')!;
  expect(atTheDoor.size).toBe(DISKS.length + PLAIN.length + MIXED.length);
  const born = transitions.reachableAt('turn.locked');
  for (const kind of ['reservation', 'disk', 'image']) expect(born).toContain(`${kind}, unborn: --birth--`);
  for (const { birth } of RESERVATION_SCENARIOS.filter(({ birth: { type } }) => type === KINDS.reservation.birth))
    for (const name of begin(KINDS.reservation, birth, reservationPromises).taken)
      expect(born).toContain(`reservation, unborn: ${name}`);
});
