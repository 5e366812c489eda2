import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ROOT } from './files.ts';

/** Runs the project's eslint on a text in the place of a file of the project, with the project's own settings. */
function lint(text: string): { status: number | null; output: string } {
  const program = join(ROOT, 'node_modules/eslint/bin/eslint.js');
  const run = spawnSync(process.execPath, [program, '--stdin', '--stdin-filename', join(ROOT, 'persistence/embedded.ts')], {
    cwd: ROOT,
    input: text,
    encoding: 'utf8',
  });
  return { status: run.status, output: run.stdout + run.stderr };
}

const program = (...statements: string[]) => `import pg from 'pg';
export async function work(client: pg.Client, pool: pg.Pool): Promise<void> {
${statements.join('\n')}
  await client.end();
}
`;

// One run for both: the types of the whole project are read for it.
it('a promise that floats fails the lint, in each of its shapes, and one that is awaited does not', { timeout: 240_000 }, () => {
  const { status, output } = lint(
    program(
      `client.query('select 1');`,
      `pool.query('select $1', [1]);`,
      `pool.connect();`,
      `[1, 2].map((n) => client.query('select $1', [n]));`,
      `await client.query('select 1');`,
      `await pool.query('select $1', [1]);`,
    ),
  );
  expect(output.match(/^ +\d+:\d+ +error .*no-floating-promises$/gm)?.map((line) => Number(/\d+/.exec(line)))).toEqual([
    3, 4, 5, 6,
  ]);
  expect(output).toContain('4 problems');
  expect(status).toBe(1);
});
