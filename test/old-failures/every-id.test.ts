import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

/** Failures of the old system that must not come back here. Their table is long; the titles of the tests say what each was about. */
const IDS = `R1 R2 R3 R4 R5 R6 R7 R8 R9 R10 R11 R13 R14 R15 R16 R17 R18 R19 R20
  S1 S2 S3 S4 S5 S6 S7 S8 S9 S10 S11 S12 S13 S14 S15 S16 S17 S18 S19 S20 S21 S22 S23 S24 S25 S26 S27 S30 S31 S33 S34 S35 S36 S37
  D1 D2 D3 D4 D5 D6 D7 D8 D9 D10 D11 D12 D13 D14 D15 D16 D17 D18 D19 D20 D21 D22 D23 D24 D25 D26 D27 D28 D29 D30 D31 D32 D33 D34 D35 D36
  Q1 Q5 Q12 Q13 Q14 Q20 Q21 Q22 Q23 Q25
  N1 N2 N3 N4 N5 N6 N10 N11 N12 N13 N14 N15 N16
  T1 T2 T3 T4 T5 T6 T7 T8 T9 T10 T11 T12 T13 T14 T15 T16
  B1 B2 B3 B4 B5 B6 B7 B8 B9 B10 B11 B12 B13 B14`.split(/\s+/);

const TESTS = join(import.meta.dirname, '..');
const TITLE = /\(\s*['"`]((?:[A-Z]\d+ )*[A-Z]\d+): /g;

/** Ids with which the title of a test begins. */
function idsOfTitles(): Set<string> {
  const files = readdirSync(TESTS, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  const titles = files.flatMap((file) => [...readFileSync(join(TESTS, file), 'utf8').matchAll(TITLE)].map(([, ids]) => ids!));
  return new Set(titles.flatMap((ids) => ids.split(' ')));
}

it('every old failure of the list has a test whose title begins with its id', () => {
  const tested = idsOfTitles();
  expect(IDS.filter((id) => !tested.has(id))).toEqual([]);
  expect(IDS).toHaveLength(142);
});
