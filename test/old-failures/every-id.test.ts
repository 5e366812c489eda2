import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

/** Failures of the old system that must not come back here. Their table is long; the titles of the tests say what each was about. */
const IDS = `R1 R2 R3 R4 R5 R7 R8 R9 R10 R11 R13 R14 R17 R20
  S4 S5 S6 S7 S8 S9 S10 S11 S13 S14 S15 S16 S17 S18 S19 S20 S21 S22 S23 S24 S25 S26 S30 S34
  Q1 Q12 Q13 Q23 B8 B11 B12 B13 B14 N5`.split(/\s+/);

/** Ids with which the title of a test in this folder begins. */
function idsOfTitles(): Set<string> {
  const files = readdirSync(import.meta.dirname).filter((file) => file.endsWith('.test.ts'));
  const titles = files.flatMap((file) => [
    ...readFileSync(join(import.meta.dirname, file), 'utf8').matchAll(/\bit(?:\.for\([^)]*\))?\(\s*['"`]([A-Z]\d+): /g),
  ]);
  return new Set(titles.map((match) => match[1]!));
}

it('every old failure of the list has a test whose title begins with its id', () => {
  const tested = idsOfTitles();
  expect(IDS.filter((id) => !tested.has(id))).toEqual([]);
  expect(IDS).toHaveLength(48);
});
