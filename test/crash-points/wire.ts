/** The way to Postgres. It can be cut, as the death of a process cuts it: at once, without a word, and for good. Or it loses one answer. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class Wire {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isCut = false;
  #losesAnswer = false;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** A wire to that port of that host. */
  static async to(host: string, port: number): Promise<Wire> {
    const server = createServer();
    const wire = new Wire(server);
    server.on('connection', (near) => wire.#join(near, host, port));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return wire;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Destroy every socket. Whoever comes later is turned away: the port stays ours, so that no ghost reaches somebody else's server. */
  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Break all connections when the server has done the next work and says so: whoever asked will never know. They may connect again. */
  loseAnswer(): void {
    this.#losesAnswer = true;
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #join(near: Socket, host: string, port: number): void {
    near.on('error', () => {});
    if (this.#isCut) {
      near.destroy();
      return;
    }
    const far = connect(port, host);
    this.#watch(near, far);
    this.#watch(far, near);
    near.pipe(far);
    far.on('data', (answer) => {
      if (this.#losesAnswer && answer.subarray(-READY.length).equals(READY)) {
        this.#losesAnswer = false;
        for (const socket of this.#sockets) socket.destroy();
      } else if (!near.destroyed && !near.write(answer)) {
        far.pause();
        near.once('drain', () => far.resume());
      }
    });
  }

  #watch(socket: Socket, other: Socket): void {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#sockets.delete(socket);
      other.destroy();
    });
  }
}

/** The server is idle, outside a transaction: what was asked is committed. */
const READY = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);
