/** A proxy in front of Postgres that ends connections at the worst moment, deterministically. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { onTestFinished } from 'vitest';

/** ReadyForQuery of an idle session: the last message of a login. */
const READY = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

/** ErrorResponse as pg_terminate_backend makes the server send it. */
function farewell(): Buffer {
  const fields = Buffer.from('SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0');
  const head = Buffer.alloc(5);
  head.write('E');
  head.writeInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, fields]);
}

/**
 * Serves until the test is over. The first `times` connections get, in the packet that says that they are open, the message that they
 * are ended. @returns its port, and how many it has ended.
 */
export async function proxyThatEnds(
  server: { host: string; port: number },
  times: number,
): Promise<{ port: number; count: () => number }> {
  let ended = 0;
  const proxy = createServer((socket) => {
    const upstream = connect(server.port, server.host);
    upstream.on('data', (chunk) => {
      if (ended < times && chunk.subarray(-READY.length).equals(READY)) {
        ended++;
        socket.end(Buffer.concat([chunk, farewell()]));
        upstream.destroy();
      } else socket.write(chunk);
    });
    socket.on('data', (chunk) => upstream.write(chunk));
    socket.on('close', () => upstream.destroy()).on('error', () => upstream.destroy());
    upstream.on('close', () => socket.end()).on('error', () => socket.destroy());
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  onTestFinished(() => void proxy.close());
  return { port: (proxy.address() as AddressInfo).port, count: () => ended };
}
