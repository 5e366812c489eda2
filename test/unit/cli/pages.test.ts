import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { Database } from '../../../persistence/database.ts';
import { EXIT, EXIT_MEANINGS } from '../../../src/cli/exit.ts';
import { buildProgram } from '../../../src/cli/program.ts';
import { ADVICE, errorsPage, PROBLEMS } from '../../../src/errors.ts';
import { buildHttp } from '../../../src/http/server.ts';

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

describe('docs/api.md', () => {
  it('names every path of the API, and none that is not there', async () => {
    const db = new Database({ host: '127.0.0.1', port: 1, user: '', password: '', database: '' });
    const none = { ok: true, detail: '' };
    const health = async () => ({ database: none, queue: none, tracker: none });
    const app = await buildHttp({
      db,
      kernel: new Kernel({ db, kinds: [] }),
      logger: false,
      timeScale: 1,
      health,
      trackerAgeMs: () => null,
    });
    const { paths } = app.swagger() as { paths: Record<string, object> };
    const there = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const told = [...page('api').matchAll(/`((?:GET|POST) \/[^` ]*)`/g)].map(([, request]) => request!);
    const hidden = ['GET /metrics', 'GET /openapi.json'];
    expect([...new Set(told)].sort()).toEqual([...there, ...hidden].sort());
    await app.close();
  });
});
