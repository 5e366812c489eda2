import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { arrayLiteral } from '../../../persistence/array-literal.ts';
import { Database } from '../../../persistence/database.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

let test: TestDatabase;
let db: Database;
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database(test.config);
});
afterAll(async () => {
  await db.close();
  await test.drop();
});

const text = fc.oneof(
  fc.string({ unit: 'binary' }).map((value) => value.replaceAll('\0', '').toWellFormed()),
  fc.string({ unit: fc.constantFrom('"', '\\', '{', '}', ',', ' ', '\n', '\t', '\u0001', 'n', 'NULL', 'é', '😀', "'") }),
  fc.json().filter((value) => !/\\u0000|\\ud[89a-f]/i.test(value)),
);

it('any texts come back from the database as they went in', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.option(text), { maxLength: 8 }), async (values) => {
      const { rows } = await db.query<{ back: (string | null)[] }>('select $1::text[] as back', [values]);
      expect(rows[0]!.back).toEqual(values);
    }),
    { numRuns: 300 },
  );
});

it('numbers, truths and moments do as well; anything else is left to the driver', async () => {
  const moment = new Date('2026-11-21T08:00:00.123Z');
  const { rows } = await db.query(
    'select $1::float8[] as numbers, $2::bool[] as truths, $3::timestamptz[] as moments, $4::bigint[] as whole',
    [
      [1.5, null, -2e-7],
      [true, false, null],
      [moment, null],
      [2 ** 40, 0],
    ],
  );
  expect(rows).toEqual([
    { numbers: [1.5, null, -2e-7], truths: [true, false, null], moments: [moment, null], whole: ['1099511627776', '0'] },
  ]);
  expect(arrayLiteral([{ a: 1 }])).toBeNull();
  expect(arrayLiteral([[1], [2]])).toBeNull();
  const { rows: nested } = await db.query('select $1::int[] as nested', [[[1], [2]]]);
  expect(nested).toEqual([{ nested: [[1], [2]] }]);
});
