/** A way to an emulator of AWS that a test can make bad, request by request: refused, failed, or done and never answered. It remembers each. */
import { once } from 'node:events';
import http, { type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface SeenCall {
  /** Action of a query protocol, or method and path. */
  action: string;
  at: number;
}

/** What becomes of a call. A code is said in place of an answer, before anything is done. */
export type CallFate = 'done' | 'throttled' | 'failed' | 'unanswered' | { code: string };

export class BadDay {
  readonly calls: SeenCall[] = [];
  /** The fate of each call, by its action and its number from 1. */
  fate: (action: string, number: number) => CallFate = () => 'done';
  /** What is passed on in place of what was sent. */
  rewrite: (body: string) => string = (body) => body;
  readonly #target: URL;
  readonly #server: Server;
  readonly #agent = new http.Agent({ keepAlive: true });

  private constructor(target: string) {
    this.#target = new URL(target);
    this.#server = http.createServer((request, response) => void this.#pass(request, response));
  }

  static async before(target: string): Promise<BadDay> {
    const day = new BadDay(target);
    day.#server.listen(0, '127.0.0.1');
    await once(day.#server, 'listening');
    return day;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#agent.destroy();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const action = actionOf(request, body);
    this.calls.push({ action, at: performance.now() });
    const fate = this.fate(action, this.calls.length);
    const say = (status: number, code: string) =>
      response
        .writeHead(status, { 'content-type': 'text/xml' })
        .end(
          `<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>on purpose</Message></Error><RequestId>r</RequestId></ErrorResponse>`,
        );
    if (fate === 'throttled') return void say(400, 'Throttling');
    if (fate === 'failed') return void say(500, 'InternalFailure');
    if (typeof fate === 'object') return void say(400, fate.code);
    const { hostname, port } = this.#target;
    const passed = Buffer.from(this.rewrite(body.toString('latin1')), 'latin1');
    const onward = http.request(
      {
        hostname,
        port,
        agent: this.#agent,
        method: request.method,
        path: request.url,
        headers: { ...request.headers, host: this.#target.host, 'content-length': passed.length },
      },
      (answer) => {
        if (fate === 'unanswered') {
          answer.resume();
          answer.once('end', () => request.socket.destroy());
          return;
        }
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      },
    );
    onward.on('error', () => request.socket.destroy());
    onward.end(passed);
  }
}

function actionOf(request: IncomingMessage, body: Buffer): string {
  const action = new URLSearchParams(body.toString('latin1')).get('Action');
  return action ?? `${request.method} ${(request.url ?? '').split('?', 1)[0]}`;
}
