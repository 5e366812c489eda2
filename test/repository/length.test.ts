import { expect, it } from 'vitest';
import { projectFiles } from './files.ts';

const MOST_LINES = 400;
const COMFORTABLE = 350;
/** Written once or by a program: their length is not a matter of taste. */
const EXEMPT = [/^package-lock\.json$/, /^persistence\/migrations\//, /(^|\/)generated\//, /^test\/golden\//];

it(`no source file is longer than ${MOST_LINES} lines`, () => {
  const long = projectFiles('.ts', '.tsx', '.js', '.mjs', '.sh')
    .filter(({ path }) => !EXEMPT.some((pattern) => pattern.test(path)))
    .map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }))
    .filter(({ lines }) => lines > COMFORTABLE)
    .sort((a, b) => b.lines - a.lines);
  for (const { path, lines } of long) console.info(`long: ${path} has ${lines} lines`);
  expect(long.filter(({ lines }) => lines > MOST_LINES)).toEqual([]);
});
