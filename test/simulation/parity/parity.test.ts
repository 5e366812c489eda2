// The simulation is worth what its store is worth: every twin must do what its statement does in Postgres.
import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import '../statements/all.ts';
// The driver's parsers of times and big numbers are set where the database is.
import '../../../persistence/database.ts';
import { Tables } from '../store/schema.ts';
import { statementsWithTwins, twinOf } from '../store/statement.ts';
import { SqlError, Tx } from '../store/tables.ts';
import { ADD, END_DONE, FAIL, LEASE, RENEW, RETRY, SUPERSEDE } from '../../../persistence/outbox.ts';
import { CASES } from './cases.ts';
import { canonical, DUMPS } from './dump.ts';

let database: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await createTestDatabase();
  client = new pg.Client({ ...database.config, options: '-c TimeZone=UTC' });
  await client.connect();
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

test('every twin has a case', () => {
  const cases = new Set(CASES.map(([text]) => text));
  expect(statementsWithTwins().filter((text) => !cases.has(text))).toEqual([]);
  expect([...cases].filter((text) => !statementsWithTwins().includes(text))).toEqual([]);
});

interface Step {
  text: string;
  values: unknown[];
}

const step: fc.Arbitrary<Step> = fc
  .nat({ max: CASES.length - 1 })
  .chain((index) => CASES[index]![1].map((values) => ({ text: CASES[index]![0], values })));
/** Statements that fill the tables come more often. */
const writing = CASES.filter(([text]) => /^\s*(with \w+ as[\s\S]*)?insert/i.test(text));
const filling: fc.Arbitrary<Step> = fc
  .nat({ max: writing.length - 1 })
  .chain((index) => writing[index]![1].map((values) => ({ text: writing[index]![0], values })));

test('statements and their twins give the same answers and leave the same rows', { timeout: 120_000 }, async () => {
  const ran = new Set<string>();
  const property = fc.asyncProperty(
    fc.array(filling, { minLength: 8, maxLength: 25, size: 'max' }),
    fc.array(fc.oneof(filling, step, step), { minLength: 10, maxLength: 40, size: 'max' }),
    async (first, second) => void (await compare([...first, ...second], ran)),
  );
  await fc.assert(property, { numRuns: 120, endOnFailure: false });
  expect(CASES.filter(([text]) => !ran.has(text)).map(([text]) => text)).toEqual([]);
});

test('an effect that is leased again and again is counted, paused and superseded alike', { timeout: 60_000 }, async () => {
  // Time goes on from step to step, further than most leases last.
  const outboxCase = (text: string) => CASES.find(([known]) => known === text)![1].map((values) => ({ text, values }));
  const at = (place: number) => new Date(Date.parse('2026-03-02T09:00:00Z') + place * 20_000);
  const leasing = outboxCase(LEASE).map(({ text, values }) => ({
    text,
    values: [...values.slice(0, 5), [], ...values.slice(6)],
  }));
  const others = fc.oneof(...[ADD, SUPERSEDE, RENEW, RETRY, END_DONE, FAIL].map(outboxCase));
  const steps = fc
    .array(fc.oneof({ weight: 3, arbitrary: leasing }, others), { minLength: 20, maxLength: 40, size: 'max' })
    .map((drawn) =>
      drawn.map(({ text, values }, place) => ({ text, values: text === LEASE ? [at(place), ...values.slice(1)] : values })),
    );
  const ran = new Set<string>();
  let most = 0;
  const property = fc.asyncProperty(outboxCase(ADD), outboxCase(ADD), steps, async (one, other, rest) => {
    most = Math.max(most, await compare([one, other, ...rest], ran));
  });
  await fc.assert(property, { numRuns: 100, endOnFailure: false });
  expect(most).toBeGreaterThan(4);
});

/** Run the statements on both sides, in one transaction that is rolled back. @returns the most takeovers of an effect. @throws at the first difference */
async function compare(steps: readonly Step[], ran: Set<string>): Promise<number> {
  await client.query('begin');
  try {
    const tables = new Tables();
    const tx = await open(tables);
    for (const { text, values } of steps) {
      ran.add(text);
      const mark = tx.log.length;
      await client.query('savepoint step');
      const real = await client.query(text, values).catch((error: pg.DatabaseError) => error.code ?? String(error));
      if (typeof real === 'string') await client.query('rollback to savepoint step');
      let own: { rows: unknown[]; rowCount: number } | string;
      try {
        own = twinOf(text)(tables, tx, values);
      } catch (error) {
        if (!(error instanceof SqlError)) throw error;
        tx.undoTo(mark);
        own = error.code;
      }
      await expectSame(text, values, real, own);
      await sync(tables);
    }
    for (const { name, sql, table } of DUMPS) {
      const { rows, fields } = await client.query(sql);
      const columns = fields.map((field) => field.name);
      const own = [...table(tables).everything(tx)].filter((row) => name !== 'queue' || row.archived === false);
      expect(sorted(own, columns), name).toEqual(sorted(rows, columns));
    }
    return Math.max(0, ...[...tables.effects.everything(tx)].map(({ takeovers }) => takeovers));
  } finally {
    await client.query('rollback');
  }
}

/** An empty world with the catalogue and two queued messages, at the time of the transaction. */
async function open(tables: Tables): Promise<Tx> {
  const { rows } = await client.query('select now() as now');
  const tx = new Tx((rows[0] as { now: Date }).now.getTime());
  await client.query("delete from gpu_availability; delete from gpu_types where gpu_type not in ('t4', 'a100')");
  await client.query("update gpu_types set is_active = false where gpu_type = 'a100'");
  const types = await client.query(
    `select gpu_type as "gpuType", instance_type as "instanceType", resource_name as "resourceName", max_gpus as "maxGpus",
            max_per_node as "maxPerNode", max_gang_nodes as "maxGangNodes", cpus, memory_gb as "memoryGb", cpu_share as "cpuShare",
            memory_share as "memoryShare", efa_count as "efaCount", max_hours as "maxHours", max_total_hours as "maxTotalHours",
            is_active as "isActive" from gpu_types`,
  );
  for (const row of types.rows) tables.gpuTypes.insert(row, tx);
  await client.query('update catalogue_version set version = 1');
  await client.query('truncate pgmq.q_gpu_reservations restart identity; delete from pgmq.a_gpu_reservations');
  await client.query("select pgmq.send('gpu_reservations', '1'), pgmq.send('gpu_reservations', '2')");
  for (const msgId of [1, 2]) {
    const row = {
      queue: 'gpu_reservations',
      msgId,
      readCount: 0,
      enqueuedAt: tx.now,
      visibleAt: tx.now,
      message: msgId,
      archived: false,
    };
    tables.queues.insert(row, tx);
  }
  await client.query("select setval(pg_get_serial_sequence('mailbox', 'id'), 1, false)");
  return tx;
}

/** Identities that a failed statement took are gone in Postgres; in memory they are counted up to there. */
async function sync(tables: Tables): Promise<void> {
  const { rows } = await client.query(`select case when is_called then last_value else 0 end as last from mailbox_id_seq`);
  tables.lastMailId = (rows[0] as { last: number }).last;
}

async function expectSame(
  text: string,
  values: unknown[],
  real: pg.QueryResult | string,
  own: { rows: unknown[]; rowCount: number } | string,
): Promise<void> {
  const about = `${text}\n${JSON.stringify(values)}`;
  if (typeof real === 'string' || typeof own === 'string') {
    const codeOf = (answer: object | string) => (typeof answer === 'string' ? answer : 'no error');
    expect(codeOf(own), about).toBe(codeOf(real));
    return;
  }
  const columns = real.fields.map((field) => field.name);
  // Some answers are columns that nobody reads.
  const read = columns.filter(
    (column) =>
      !['?column?', 'delete', 'archive', 'set_vt', 'pg_advisory_xact_lock', 'pg_advisory_xact_lock_shared'].includes(column),
  );
  const unread = ['msg_id', 'read_ct', 'enqueued_at', 'vt', 'last_read_at', 'message', 'headers'];
  const compared = columns.includes('read_ct')
    ? ['msg_id', 'read_ct', 'message']
    : read.filter((column) => !unread.includes(column));
  if (compared.length > 0) expect(sorted(own.rows, compared), about).toEqual(sorted(real.rows, compared));
  if (columns.length === 0) expect(own.rowCount, about).toBe(real.rowCount ?? 0);
}

function sorted(rows: readonly unknown[], columns: readonly string[]): unknown[] {
  return rows.map((row) => canonical(row, columns)).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}
