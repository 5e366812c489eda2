import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { MUTANTS } from './mutants/list.ts';

it.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))(
  'there is still one place where the bug can be planted: %s',
  (_name, { edits }) => {
    for (const { file, from } of edits) {
      const text = readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
      expect(text.split(from), `${file} reads: ${from}`).toHaveLength(2);
    }
  },
);
