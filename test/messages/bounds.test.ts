import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startDoor } from './support.ts';

let door: Awaited<ReturnType<typeof startDoor>>;
beforeAll(async () => {
  door = await startDoor();
});
afterAll(() => door?.stop());

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let level = 0; level < depth; level++) value = [value];
  return value;
}

const create = { action: 'create_reservation', user_id: 'deep', gpu_type: 't4', gpu_count: 1, duration_hours: 1 };

describe('a message that means no good', () => {
  it('by nesting without end is refused with the field named, at once and at any depth', async () => {
    await door.send({ ...create, x: nested(40) });
    await door.send({ ...create, y: nested(3_000) });
    await door.drain();
    expect(await door.letters()).toMatchObject([
      { code: 'GPU_FIELD_INVALID', field: 'x' },
      { code: 'GPU_FIELD_INVALID', field: 'y' },
    ]);
  });

  it("by naming one of the library's own events beside a proper action is refused", async () => {
    await door.send({ ...create, type: 'xstate.init' });
    await door.drain();
    expect(await door.letters()).toMatchObject([{}, {}, { code: 'GPU_ACTION_UNKNOWN', field: 'type' }]);
    expect((await door.db.query('select 1 from reservations')).rowCount).toBe(0);
  });
});
