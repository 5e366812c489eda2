import { existsSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { expect, it } from 'vitest';
import { freePort, isPortFree } from '../../persistence/embedded/ports.ts';

const RANGE = '/proc/sys/net/ipv4/ip_local_port_range';

it.skipIf(!existsSync(RANGE))(
  'a free port is none that the system gives to outgoing connections: callers cannot take the place of a server that is down',
  async () => {
    const [first] = readFileSync(RANGE, 'utf8').trim().split(/\s+/).map(Number);
    const ports = await Promise.all(Array.from({ length: 50 }, () => freePort()));
    expect(Math.max(...ports)).toBeLessThan(Math.min(first!, 30_000));
    expect(new Set(ports).size).toBeGreaterThan(40);
  },
);

it('a port that is called again and again while nobody listens is still free', async () => {
  const port = await freePort();
  for (let call = 0; call < 500; call++) {
    const socket = connect({ port, host: '127.0.0.1' });
    await once(socket, 'error');
    socket.destroy();
  }
  expect(await isPortFree(port)).toBe(true);
});

it('a port that somebody listens on is not free', async () => {
  const port = await freePort();
  const server = createServer().listen(port, '127.0.0.1');
  await once(server, 'listening');
  expect(await isPortFree(port)).toBe(false);
  await new Promise((resolve) => server.close(resolve));
  expect(await isPortFree(port)).toBe(true);
});
