// A TCP port that passes everything on to another one, until it is closed, or turned into a black hole.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export class Wire {
  readonly #target: number;
  readonly #server = createServer((near) => this.#join(near));
  readonly #sockets = new Set<Socket>();
  /** Connections accepted so far. */
  accepted = 0;
  #port = 0;
  #swallowing = false;

  private constructor(target: number) {
    this.#target = target;
  }

  static async to(target: number): Promise<Wire> {
    const wire = new Wire(target);
    await wire.open();
    return wire;
  }

  get port(): number {
    return this.#port;
  }

  /** Let everything through again, on the same port. What was in the black hole is lost with its connection. */
  async open(): Promise<void> {
    if (this.#swallowing) this.cut();
    this.#swallowing = false;
    if (this.#server.listening) return;
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** End every connection; new ones are refused. */
  async refuse(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.cut();
    await closed;
  }

  /** Connections stay and come about, and nothing passes. */
  swallow(): void {
    this.#swallowing = true;
    for (const socket of this.#sockets) socket.pause();
  }

  /** End every connection; new ones are welcome. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(near: Socket): void {
    this.accepted += 1;
    const far = connect(this.#target, '127.0.0.1');
    for (const [one, other] of [[near, far] as const, [far, near] as const]) {
      this.#sockets.add(one);
      one.setNoDelay(true);
      one.on('error', () => one.destroy());
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
    if (this.#swallowing) for (const socket of [near, far]) socket.pause();
  }
}
