import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startWorld, type World } from '../support/world.ts';
import { ARCHIVED, type Body, fresh, messageNames, messageOf } from './support.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { t4: 3 } });
});
afterAll(async () => {
  await world?.stop();
});

/** What each file must be refused for: the field at fault, words of the reason, and the stable code. */
const EXPECTED: Record<string, { field: string; says: RegExp; code: string }> = {
  array: { field: '(body)', says: /must be a JSON object/, code: 'GPU_MESSAGE_NOT_OBJECT' },
  'not-an-object': { field: '(body)', says: /must be a JSON object/, code: 'GPU_MESSAGE_NOT_OBJECT' },
  'bad-count': { field: 'gpu_count', says: /3 GPUs of h100 .* allowed are 1, 2, 4, 8/, code: 'GPU_COUNT_INVALID' },
  'injected-event': { field: 'action', says: /xstate\.stop.* unknown/, code: 'GPU_ACTION_UNKNOWN' },
  negative: { field: 'extension_hours', says: /extension_hours/, code: 'GPU_FIELD_INVALID' },
  'no-action': { field: 'action', says: /action is missing/, code: 'GPU_ACTION_MISSING' },
  'path-in-disk-name': { field: 'disk_name', says: /disk_name/, code: 'GPU_FIELD_INVALID' },
  'sql-in-user': { field: 'user_id', says: /user_id/, code: 'GPU_FIELD_INVALID' },
  'too-long': { field: 'duration_hours', says: /10000 hours of h100 .* 24 hours/, code: 'GPU_DURATION_INVALID' },
  'unknown-action': { field: 'action', says: /extnd.* unknown/, code: 'GPU_ACTION_UNKNOWN' },
  'unknown-type': { field: 'gpu_type', says: /h900 is unknown; known are .*h100/, code: 'GPU_TYPE_UNKNOWN' },
};

async function counts(): Promise<Body> {
  const { rows } = await world.db.query<Body>(
    `select (select count(*)::int from reservations) as reservations, (select count(*)::int from disks) as disks,
            (select count(*)::int from actors where kind in ('reservation', 'disk', 'image')) as actors,
            (select count(*)::int from secrets) as secrets, (select count(*)::int from operations) as operations`,
  );
  return rows[0];
}

async function letterOf(queue: string, msgId: number): Promise<Body> {
  return world.until(`message ${msgId} is a dead letter`, async () => {
    const { rows } = await world.db.query<Body>('select * from dead_letters where queue = $1 and msg_id = $2', [queue, msgId]);
    return rows[0] ?? null;
  });
}

describe('an invalid message', () => {
  it.for(messageNames('invalid'))(
    '%s.json is archived and a dead letter that names the field; the next one is served',
    async (name) => {
      const expected = EXPECTED[name];
      expect(expected, `what ${name}.json must be refused for`).toBeDefined();
      const body = messageOf('invalid', name);
      const queue = body.action === 'create_disk' ? 'disk_operations' : 'gpu_reservations';
      const before = await counts();
      const msgId = await world.send(body, queue);
      const good = fresh('create-cli');
      await world.send(good);
      await world.reaches(good.reservation_id, 'running');

      const letter = await letterOf(queue, msgId);
      expect(letter).toMatchObject({ source: 'queue', field: expected!.field, code: expected!.code, resolved: null });
      expect(letter.reason).toMatch(expected!.says);
      expect((await world.db.query(ARCHIVED[queue]!, [msgId])).rowCount).toBe(1);
      const after = await counts();
      expect(after).toEqual({
        ...before,
        reservations: before.reservations + 1,
        actors: before.actors + 1,
        secrets: before.secrets + 1,
      });
      await world.send({ action: 'cancel', reservation_id: good.reservation_id });
      await world.reaches(good.reservation_id, 'cancelled');
    },
  );

  it('does no harm to the tables it names', async () => {
    await world.send(messageOf('invalid', 'sql-in-user'));
    const good = fresh('create-cli', { name: "robert'); drop table reservations;--" });
    await world.send(good);
    expect(await world.reaches(good.reservation_id, 'running')).toMatchObject({ name: 'robert-drop-table-reservations' });
  });

  it('is refused for a wrong kind of value or a disk size out of bounds, and each names its field', async () => {
    const cases: [Record<string, unknown>, string][] = [
      [{ gpu_count: '1' }, 'gpu_count'],
      [{ gpu_count: 1.5 }, 'gpu_count'],
      [{ duration_hours: 0.01 }, 'duration_hours'],
      [{ duration_hours: null, user_id: null }, 'user_id'],
      [{ reservation_id: 'not-a-uuid' }, 'reservation_id'],
      [{ disk_size_gb: 100_000, no_persistent_disk: false }, 'disk_size_gb'],
      [{ github_user: 'a;rm -rf /' }, 'github_user'],
      [{ image: '--privileged' }, 'image'],
      [{ env_vars: { 'A B': 'x' } }, 'env_vars.A B'],
      [{ dockerfile: 'bm90IGEgdGFy' }, 'dockerfile'],
      [{ is_multinode: true, master_reservation_id: null }, 'master_reservation_id'],
    ];
    for (const [changes, field] of cases) {
      const msgId = await world.send(fresh('create-cli', changes));
      expect(await letterOf('gpu_reservations', msgId), JSON.stringify(changes)).toMatchObject({ field });
    }
  });
});
