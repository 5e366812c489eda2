// Any message on the queues is understood or becomes a dead letter that says why; none is lost, and none is our fault.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { CreateMessage, DiskMessages, EventMessage } from '../../actors/intake/messages.ts';
import { PROBLEMS, type ProblemCode } from '../../actors/problem.ts';
import { startWorld, type World } from '../support/world.ts';
import { fitting, nasty, type Schema, spoiled } from './values.ts';

/** Messages in all; `FUZZ_MESSAGES` for more. */
const MESSAGES = Number(process.env['FUZZ_MESSAGES'] ?? 20_000);
const AT_ONCE = 100;

let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { h100: 2, t4: 2 }, timeScale: 10_000 });
});
afterAll(async () => {
  await world?.stop();
});

const IDS = Array.from({ length: 8 }, (_, index) => `c0ffee00-0000-7000-8000-00000000000${index}`);
const TOLD: Record<string, readonly string[]> = {
  reservation_id: [...IDS, 'c0ffee00'],
  master_reservation_id: IDS.slice(0, 2),
  user_id: ['ann', 'bob'],
  gpu_type: ['t4', 'h100', 'cpu-x86'],
  disk_name: ['default', 'data'],
  operation_id: ['op-1', 'op-2'],
};
const jsonSchema = (schema: z.ZodType) => z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Schema;
const told = (name: string) => TOLD[name] ?? ['nothing'];
const nothingElse = () => ({}) as Schema;

/** Messages of one action: as they should be, by their schema, spoiled. */
function messagesFor(action: string, schema: z.ZodType, good: object): fc.Arbitrary<unknown> {
  const shaped = fitting(jsonSchema(schema), nothingElse, told).map((body) => ({ ...(body as object), action }));
  const varied = fc.tuple(fc.constantFrom(...IDS), fc.constantFrom('ann', 'bob')).map(([reservation_id, user_id]) => ({
    action,
    reservation_id,
    user_id,
    ...good,
  }));
  return fc.oneof({ weight: 3, arbitrary: varied }, { weight: 2, arbitrary: shaped }, { weight: 3, arbitrary: spoiled(varied) });
}

const anything = fc.oneof(
  { weight: 6, arbitrary: messagesFor('create_reservation', CreateMessage, { gpu_type: 't4', gpu_count: 1, duration_hours: 1 }) },
  ...Object.entries(EventMessage).map(([action, schema]) => ({
    weight: 1,
    arbitrary: messagesFor(action, schema, { extension_hours: 1, github_username: 'octocat' }),
  })),
  ...Object.entries(DiskMessages).map(([action, schema]) => ({
    weight: 1,
    arbitrary: messagesFor(action, schema, { disk_name: 'data', source_disk: 'data', target_disk: 'copy', new_name: 'data' }),
  })),
  { weight: 1, arbitrary: nasty },
);

const LEFT = `select (select count(*) from pgmq.q_gpu_reservations)::int + (select count(*) from pgmq.q_disk_operations)::int as n`;

it(`${MESSAGES} messages of all kinds: each is understood or told why not, and the queues are empty at the end`, {
  timeout: 600_000,
}, async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const bodies = fc.sample(anything, { numRuns: MESSAGES, seed });
  for (let start = 0; start < bodies.length; start += AT_ONCE) {
    const batch = bodies.slice(start, start + AT_ONCE).map((body) => JSON.stringify(body ?? null));
    // What the database cannot hold as JSON no producer can send.
    const sendable = batch.filter((text) => !/\\u0000|\\ud[89a-f]/i.test(text));
    const queue = start % (3 * AT_ONCE) === 0 ? 'disk_operations' : 'gpu_reservations';
    await world.db.query(`select pgmq.send_batch($1, $2::jsonb[])`, [queue, sendable]);
  }
  await world.until('both queues are empty', async () => (await world.db.query<{ n: number }>(LEFT)).rows[0]!.n === 0, 300_000);

  const { rows: letters } = await world.db.query<{ code: ProblemCode; reason: string; body: unknown; n: number }>(
    'select code, min(reason) as reason, min(body::text) as body, count(*)::int as n from dead_letters group by code order by n desc',
  );
  console.log(`fuzz: ${letters.map(({ code, n }) => `${n} x ${code}`).join(', ')}`);
  const ours = letters.filter(({ code }) => PROBLEMS[code].status >= 500);
  expect(ours, `seed ${seed}`).toEqual([]);
  expect(letters.length).toBeGreaterThan(5);
  const { rows } = await world.db.query<{ n: number }>('select count(*)::int as n from reservations');
  expect(rows[0]!.n).toBeGreaterThan(10);
  expect(world.errors, `seed ${seed}`).toEqual([]);
});
