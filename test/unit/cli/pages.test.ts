import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { EXIT, EXIT_MEANINGS } from '../../../src/cli/exit.ts';
import { buildProgram } from '../../../src/cli/program.ts';
import { ADVICE, errorsPage, PROBLEMS } from '../../../src/errors.ts';
import { apiPage, describeApi } from '../../../src/http/api-page.ts';

const page = (name: string) => readFileSync(new URL(`../../../docs/${name}.md`, import.meta.url), 'utf8');
const surroundings = {
  environment: {},
  directory: '/',
  out: { write: () => {} },
  err: { write: () => {} },
  interrupted: new AbortController().signal,
};

describe('docs/errors.md', () => {
  it('is what the table of errors gives, no more and no less', () => {
    expect(page('errors')).toBe(errorsPage());
    expect(Object.keys(ADVICE).sort()).toEqual(Object.keys(PROBLEMS).sort());
    for (const code of Object.keys(PROBLEMS)) expect(code).toMatch(/^GPU_[A-Z_]+$/);
  });
});

describe('docs/cli.md', () => {
  it('names every command', () => {
    const program = buildProgram(surroundings);
    const names = program.commands.flatMap((one) =>
      one.commands.length === 0 ? [one.name()] : one.commands.map((sub) => `${one.name()} ${sub.name()}`),
    );
    expect(names).toContain('admin verify');
    for (const name of names) expect(page('cli'), name).toContain(`\`${name}`);
  });

  it('gives the exit codes as the tool does', () => {
    const rows = [...page('cli').matchAll(/^\| (\d+) \| (.+) \|$/gm)].map(([, code, meaning]) => [code, meaning]);
    expect(rows).toEqual(Object.entries(EXIT_MEANINGS));
    expect(Object.values(EXIT).map(String).sort()).toEqual(Object.keys(EXIT_MEANINGS).sort());
  });
});

describe('the pages of the API', () => {
  it('list every path as the description has it: node src/http/write-api-page.ts', async () => {
    expect(page('api-paths')).toBe(apiPage(await describeApi()));
  });

  it('name no path that is not there', async () => {
    const { paths = {} } = await describeApi();
    const there = new Set(
      Object.entries(paths).flatMap(([path, item]) => Object.keys(item ?? {}).map((method) => `${method.toUpperCase()} ${path}`)),
    );
    for (const hidden of ['GET /metrics', 'GET /openapi.json', 'GET /docs']) there.add(hidden);
    const told = [...page('api').matchAll(/`((?:GET|POST|PUT|PATCH|DELETE) \/[^` ?]*)[^`]*`/g)].map(([, request]) => request!);
    expect(told.length).toBeGreaterThan(30);
    expect(told.filter((request) => !there.has(request))).toEqual([]);
  });
});
