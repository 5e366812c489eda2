// Every curl command of every page is run, as it stands there, against a service that has what the pages speak of.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type HttpWorld, startHttp } from '../integration/http/support.ts';
import { projectFiles, ROOT } from '../repository/files.ts';
import { curlCommands } from './curl.ts';

/** Pages with a command in a block of code. */
const PAGES = projectFiles('.md').filter(
  ({ path, text }) => /^(docs\/[\w-]+|README)\.md$/.test(path) && curlCommands(text).length > 0,
);

let http: HttpWorld;
/** What the commands may use: a running reservation, a disk, an open dead letter, a node. */
let variables: Record<string, string>;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 2, h100: 1 } }, { cluster: 'simulated' });
  await http.app.listen({ host: '127.0.0.1', port: 0 });
  const { authorization } = await http.as('ada', { admin: true });
  const wish = { gpu_type: 't4', duration_hours: 4, no_persistent_disk: true };
  const { id } = (await http.post('/v1/reservations', wish, { user: 'ada' })).body;
  await http.world.reaches(id, 'running');
  await http.post('/v1/disks', { disk_name: 'home' }, { user: 'ada' });
  await http.world.send({ action: 'nonsense' });
  const letter = await http.world.until('there is a dead letter', async () => {
    const { rows } = await http.world.db.query<{ id: number }>('select id from dead_letters where resolved is null');
    return rows[0] ?? null;
  });
  variables = {
    GPU_DEV_URL: `http://127.0.0.1:${(http.app.server.address() as AddressInfo).port}`,
    GPU_DEV_API_KEY: authorization.replace('Bearer ', ''),
    ID: id,
    DISK: 'home',
    LETTER: String(letter.id),
    NODE: 't4-2',
  };
});
afterAll(async () => {
  await http?.stop();
});

/** Run the commands of a page in one shell, so that what one keeps the next may use. Any that is refused ends it. */
function runAll(commands: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  // Whoever listens to a stream (-N) listens for a moment; all others must be answered.
  const script = [
    'set -euo pipefail',
    'curl() { case " $* " in *" -N "*|*" -sN "*) command curl --fail-with-body --max-time 1 "$@" || [ $? = 28 ];; *) command curl --fail-with-body --max-time 20 "$@";; esac; }',
    ...commands.flatMap((command) => [
      `printf '\\n>>> %s\\n' ${JSON.stringify(command.slice(0, 60)).replaceAll('$', '\\$').replaceAll('`', '\\`')}`,
      command,
    ]),
  ].join('\n');
  return new Promise((done) => {
    const environment = { PATH: process.env['PATH'] ?? '', ...variables };
    execFile('bash', ['-c', script], { env: environment, timeout: 60_000 }, (error, out, err) => {
      done({ code: error === null ? 0 : Number(error.code ?? 1), out, err });
    });
  });
}

it('finds the commands of a page, fenced or indented, over several lines, and nothing else', () => {
  const page = [
    'Use `curl x` so:',
    '',
    "    curl -s $U/a -H 'b: c' \\",
    "      -d '{}'   # why",
    '    npx gpu-dev env',
    '```sh',
    'KEY=$(curl -s $U/k | cut -c1)',
    '$ curl $U/d',
    '```',
    'curl is a program',
  ].join('\n');
  expect(curlCommands(page)).toEqual(["curl -s $U/a -H 'b: c' -d '{}'", 'KEY=$(curl -s $U/k | cut -c1)', 'curl $U/d']);
});

it('a command that is refused fails its page', async () => {
  expect((await runAll(['curl -s $GPU_DEV_URL/v1/me'])).code).not.toBe(0);
  expect((await runAll(['curl -s $GPU_DEV_URL/health', 'curl -s $NOBODY_KNOWS'])).err).toContain('NOBODY_KNOWS');
});

for (const { path, text } of PAGES) {
  it(`${path}: every command works as it stands there`, async () => {
    const { code, out, err } = await runAll(curlCommands(text));
    expect(code, `${out.slice(-1_500)}\n${err}`).toBe(0);
  });
}

it('every page with a command is among them', () => {
  expect(PAGES.map(({ path }) => path)).toContain('docs/api.md');
  expect(readFileSync(join(ROOT, 'docs/api.md'), 'utf8').match(/^ {4}.*curl /gm)!.length).toBe(
    curlCommands(readFileSync(join(ROOT, 'docs/api.md'), 'utf8')).length,
  );
});
