import { expect, it } from 'vitest';
import { PROBLEMS } from '../../actors/problem.ts';
import { ADVICE } from '../../src/errors.ts';
import { projectFiles } from './files.ts';

/** Names that begin like a code and are something else: variables of the service and of its users. */
const VARIABLES = /^GPU_(DEV_[A-Z_]+|DEV|TYPE|COUNT)$/;
const TABLES = ['actors/problem.ts', 'src/errors.ts'];

/** Codes that stand in a text of the program, by the files that have them. */
const used = new Map<string, string[]>();
for (const { path, text } of projectFiles('.ts')) {
  if (!/^(machines|actors|persistence|src)\//.test(path) || TABLES.includes(path)) continue;
  for (const [, code] of text.matchAll(/['"`](GPU_[A-Z_]+)['"`]/g)) {
    if (!VARIABLES.test(code!)) used.set(code!, [...(used.get(code!) ?? []), path]);
  }
}

it('every code that the program gives is in the table', () => {
  expect(used.size).toBeGreaterThan(40);
  expect([...used].filter(([code]) => !(code in PROBLEMS))).toEqual([]);
});

it('every code of the table is given somewhere', () => {
  // The library's refusals are given by the page of errors itself, which maps them.
  const mapped = projectFiles('.ts')
    .filter(({ path }) => path === 'src/errors.ts')
    .flatMap(({ text }) => [...text.matchAll(/code: '(GPU_[A-Z_]+)'|new Problem\('(GPU_[A-Z_]+)'/g)].map(([, a, b]) => a ?? b));
  expect(Object.keys(PROBLEMS).filter((code) => !used.has(code) && !mapped.includes(code))).toEqual([]);
});

it('every code has a status, a title that is a sentence without its stop, and advice that is a sentence', () => {
  for (const [code, { status, title }] of Object.entries(PROBLEMS)) {
    expect(status, code).toBeGreaterThanOrEqual(400);
    expect(title, code).toMatch(/^[A-Z].*[^.]$/);
    expect(ADVICE[code as keyof typeof ADVICE], code).toMatch(/^[A-Z`].*[.`]$/);
  }
});
