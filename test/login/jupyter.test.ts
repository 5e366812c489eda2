import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serverSpec } from '../integration/providers/support/specs.ts';
import { until } from '../integration/providers/support/wait.ts';
import { findPlatform, Machine } from './support/machine.ts';
import { notTested } from '../support/not-tested.ts';

const platform = await findPlatform();
if ('missing' in platform) notTested('test/login/jupyter.test.ts', platform.missing);

const TOKEN = 'the-token-of-jupyter';
/** Stands in for Jupyter, which is large: it listens where it is told, and notes how it was started. */
const JUPYTER = `#!/bin/sh
[ ! -e /workspace/broken ] || { echo "ModuleNotFoundError: no module named tornado" >&2; exit 1; }
exec /opt/of-the-image/bin/node-of-jupyter /opt/of-the-image/bin/jupyter.cjs "$@"
`;
const SERVER = `
const { appendFileSync } = require('node:fs');
const port = Number(process.argv.find((each) => each.startsWith('--port=')).slice(7));
const facts = { args: process.argv.slice(2), uid: process.getuid(), token: process.env.JUPYTER_TOKEN, home: process.env.HOME };
appendFileSync('/workspace/starts', JSON.stringify(facts) + '\\n');
require('node:http').createServer((request, response) => response.end('{}')).listen(port, '127.0.0.1');
`;

describe.skipIf('missing' in platform)('Jupyter on a dev server', () => {
  let server: Machine;
  let port: string;
  beforeAll(async () => {
    if ('missing' in platform) return;
    server = new Machine(platform, { spec: serverSpec(), programs: { jupyter: JUPYTER, 'jupyter.cjs': SERVER } });
    // Where this Node lies may not be seen from inside.
    copyFileSync(process.execPath, server.path('programs', 'node-of-jupyter'));
    await server.start();
    port = String(server.port + 1 > 65_000 ? server.port - 1 : server.port + 1);
  });
  afterAll(() => server?.stop());

  const call = (...args: string[]) =>
    server.inside(['/bin/sh', '/etc/gpu-dev/scripts/jupyter.sh', ...args], args[0] === 'start' ? `${TOKEN}\n` : '');
  const answers = () =>
    fetch(`http://127.0.0.1:${port}/api`).then(
      () => true,
      () => false,
    );
  const starts = () =>
    readFileSync(server.path('workspace', 'starts'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { args: string[]; uid: number; token: string; home: string });

  it('N11: that cannot start is an error with its own words, and one that is missing another', async () => {
    await server.inside(['touch', '/workspace/broken']);
    const { code, stderr } = await call('start', port);
    expect(code).toBe(1);
    expect(stderr).toContain('ModuleNotFoundError: no module named tornado');
    await server.inside(['rm', '/workspace/broken']);
    await server.inside(['mv', '/opt/of-the-image/bin/jupyter', '/opt/of-the-image/bin/elsewhere']);
    expect(await call('start', port)).toMatchObject({ code: 127, stderr: 'this image has no jupyter\n' });
    await server.inside(['mv', '/opt/of-the-image/bin/elsewhere', '/opt/of-the-image/bin/jupyter']);
  });

  it('runs as the user, with a token that no list of processes shows, and twice is once', async () => {
    expect(await call('start', port)).toMatchObject({ code: 0, stderr: '' });
    expect(await answers()).toBe(true);
    expect((await call('start', port)).code).toBe(0);
    expect(starts()).toHaveLength(1);
    const [first] = starts();
    expect(first).toMatchObject({ uid: 1081, token: TOKEN, home: '/home/dev' });
    expect((await server.inside(['sh', '-c', 'cat /proc/[0-9]*/cmdline'])).stdout).not.toContain(TOKEN);
  });

  it('comes back after a restart of the container, and not after it was stopped', async () => {
    await server.end('SIGKILL');
    await server.start();
    await until('Jupyter is back', answers);
    expect(starts()).toHaveLength(2);
    expect((await call('stop')).code).toBe(0);
    expect(await answers()).toBe(false);
    expect((await call('stop')).code).toBe(0);
    expect(existsSync(server.path('state', 'jupyter', 'token'))).toBe(false);
    await server.end('SIGKILL');
    await server.start();
    expect(await answers()).toBe(false);
    expect(starts()).toHaveLength(2);
  });
});
