/** A server that stands before another, and answers some requests itself. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, request as ask } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface OwnAnswer {
  status: number;
  headers?: Record<string, string>;
  body: unknown;
}

export interface Front {
  url: string;
  stop(): Promise<void>;
}

/** @param own the answer to this request; null: the server behind answers it; silence: nobody ever does */
export async function startFront(
  behind: string,
  own: (request: IncomingMessage) => OwnAnswer | 'silence' | null,
): Promise<Front> {
  const { hostname, port } = new URL(behind);
  const server = createServer((request, response) => {
    const answer = own(request);
    if (answer === 'silence') return;
    if (answer !== null) {
      request.resume();
      response
        .writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers })
        .end(JSON.stringify(answer.body));
      return;
    }
    const { url, method, headers } = request;
    const onward = ask({ hostname, port, path: url, method, headers }, (found) => {
      response.writeHead(found.statusCode ?? 502, found.headers);
      found.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
