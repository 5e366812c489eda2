/**
 * A network between a program and its server that a test can make bad: it holds everything back and lets it go again, loses one direction of
 * a connection without ever saying so, or cuts all connections.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export type Direction = 'to server' | 'to client';

interface Pair {
  client: Socket;
  server: Socket;
  /** Directions in which nothing arrives any more. Neither side is told when the other closes. */
  lost: Set<Direction>;
}

export class TcpProxy {
  readonly port: number;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #holding = false;

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (client) => this.#join(client, target));
  }

  /** Pass on everything to this port of 127.0.0.1, from a free port. */
  static async start(target: number): Promise<TcpProxy> {
    const server = createServer({ allowHalfOpen: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new TcpProxy(server, target);
  }

  get connections(): number {
    return this.#pairs.size;
  }

  /** From now on nothing passes, on old connections and new ones, which are accepted all the same. */
  hold(): void {
    this.#holding = true;
    for (const { client, server } of this.#pairs) {
      client.pause();
      server.pause();
    }
  }

  /** What was held back arrives now, as after an outage of the network: even what its sender has given up. */
  release(): void {
    this.#holding = false;
    for (const { client, server } of this.#pairs) {
      client.resume();
      server.resume();
    }
  }

  /** The connections that exist lose a direction for good: each side believes that they are open. New ones are well. */
  lose(...directions: Direction[]): void {
    for (const pair of this.#pairs) for (const direction of directions) pair.lost.add(direction);
  }

  /** Reset every connection. */
  cut(): void {
    for (const { client, server } of this.#pairs) {
      client.resetAndDestroy();
      server.resetAndDestroy();
    }
    this.#pairs.clear();
  }

  async stop(): Promise<void> {
    this.#server.close();
    this.cut();
    await once(this.#server, 'close');
  }

  #join(client: Socket, target: number): void {
    const server = connect({ port: target, host: '127.0.0.1', allowHalfOpen: true });
    const pair: Pair = { client, server, lost: new Set() };
    this.#pairs.add(pair);
    this.#pass(pair, client, server, 'to server');
    this.#pass(pair, server, client, 'to client');
    if (!this.#holding) return;
    client.pause();
    server.pause();
  }

  #pass(pair: Pair, from: Socket, to: Socket, direction: Direction): void {
    from.setNoDelay(true);
    from.on('data', (data) => {
      if (!pair.lost.has(direction)) to.write(data);
    });
    from.on('end', () => {
      if (pair.lost.size === 0) to.end();
    });
    from.on('error', () => {
      if (pair.lost.size === 0) to.destroy();
    });
    from.on('close', () => {
      if (pair.lost.size === 0 && to.destroyed) this.#pairs.delete(pair);
    });
  }
}
