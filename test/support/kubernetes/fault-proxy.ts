// A bad day between a client and its API server: by rule it refuses, is late, is silent, cuts and loses; it remembers every request.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import https from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Duplex } from 'node:stream';
import { cannedAnswer, type Fault, type Rule, SlowDown } from './faults.ts';
import { Wire } from './wire.ts';

export interface ProxyTarget {
  /** The API server's address, with http: or https:. */
  server: string;
  /** With https: the certificate, with its key, that the proxy shows in its place. */
  caFile?: string;
  certificateKey?: string;
}

export interface SeenRequest {
  /** GET, POST, ..., or WATCH. */
  verb: string;
  /** Path with query. */
  path: string;
  at: number;
  /** Status that the client got; 0 as long as, or because, it got none. */
  status: number;
}

export class FaultProxy {
  /** All requests, oldest first; empty it at will. */
  readonly requests: SeenRequest[] = [];
  readonly #target: URL;
  readonly #agent: http.Agent;
  readonly #server: http.Server;
  readonly #ca: Buffer | null;
  readonly #watches = new Set<ServerResponse>();
  readonly #rules = new Set<Rule>();
  #wire!: Wire;

  private constructor({ server, caFile, certificateKey }: ProxyTarget) {
    this.#target = new URL(server);
    if (caFile === undefined || certificateKey === undefined) {
      this.#ca = null;
      this.#agent = new http.Agent({ keepAlive: true });
      this.#server = http.createServer();
    } else {
      this.#ca = readFileSync(caFile);
      this.#agent = new https.Agent({ keepAlive: true, ca: this.#ca });
      this.#server = https.createServer({ cert: this.#ca, key: readFileSync(certificateKey) });
    }
    this.#server.on('request', (request, response) => void this.#pass(request, response));
    this.#server.on('upgrade', (request, socket, head) => this.#tunnel(request, socket, head));
    this.#server.on('tlsClientError', () => undefined);
  }

  static async to(target: ProxyTarget): Promise<FaultProxy> {
    const proxy = new FaultProxy(target);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    proxy.#wire = await Wire.to((proxy.#server.address() as AddressInfo).port);
    return proxy;
  }

  /** Where clients go instead of to the API server. */
  get url(): string {
    return `${this.#target.protocol}//127.0.0.1:${this.#wire.port}`;
  }

  /** Connections accepted so far. */
  get connections(): number {
    return this.#wire.accepted;
  }

  /** Requests of a verb whose path matches. */
  seen(verb: string, path: RegExp): SeenRequest[] {
    return this.requests.filter((each) => each.verb === verb && path.test(each.path));
  }

  /** From now on requests that match meet this fault, so often as the rule says. @returns the rule, whose `met` counts */
  fault(match: Partial<Pick<Rule, 'verb' | 'path' | 'times' | 'chance' | 'random'>>, fault: Fault): Rule {
    const rule: Rule = { verb: null, path: /./, times: Infinity, chance: 1, random: Math.random, met: 0, ...match, fault };
    this.#rules.add(rule);
    return rule;
  }

  /** No more faults, and everything passes again. */
  async mend(): Promise<void> {
    this.#rules.clear();
    await this.#wire.open();
  }

  /** End every open watch in the middle. */
  cutWatches(): void {
    for (const watch of this.#watches) watch.socket?.destroy();
  }

  /** End every connection; new ones are welcome. */
  cut(): void {
    this.#wire.cut();
  }

  /** The server is gone: connections end, new ones are refused. */
  refuse(): Promise<void> {
    return this.#wire.refuse();
  }

  /** A black hole: connections stay and come about, and nothing passes. */
  swallow(): void {
    this.#wire.swallow();
  }

  async close(): Promise<void> {
    this.#agent.destroy();
    await this.#wire.refuse();
    this.#server.closeAllConnections();
    this.#server.close();
  }

  #ruleFor(verb: string, path: string): Rule | null {
    for (const rule of this.#rules) {
      if ((rule.verb !== null && rule.verb !== verb) || !rule.path.test(path)) continue;
      if (rule.met >= rule.times || (rule.chance < 1 && rule.random() >= rule.chance)) continue;
      rule.met += 1;
      return rule;
    }
    return null;
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '/';
    const watching = request.method === 'GET' && /[?&]watch=(true|1)/.test(path);
    const seen: SeenRequest = { verb: watching ? 'WATCH' : (request.method ?? ''), path, at: Date.now(), status: 0 };
    this.requests.push(seen);
    const fault = this.#ruleFor(seen.verb, path)?.fault ?? {};
    if (fault.delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, fault.delayMs));
    if (fault.silent) {
      request.resume();
      return;
    }
    if (fault.status !== undefined) {
      seen.status = fault.status;
      request.resume();
      cannedAnswer(response, fault);
      return;
    }
    if (fault.lose === 'request') {
      request.socket.destroy();
      return;
    }
    const { hostname, port } = this.#target;
    const headers = { ...request.headers, host: this.#target.host };
    const { request: ask } = this.#ca === null ? http : https;
    const upstream = ask({ hostname, port, path, method: request.method, headers, agent: this.#agent });
    upstream.on('error', () => response.destroy());
    response.on('close', () => upstream.destroy());
    upstream.on('response', (answer) => {
      if (fault.lose === 'answer') {
        answer.resume();
        // A watch has no end to wait for.
        if (watching) request.socket.destroy();
        else answer.on('end', () => request.socket.destroy());
        return;
      }
      seen.status = answer.statusCode ?? 0;
      if (watching) {
        this.#watches.add(response);
        response.once('close', () => this.#watches.delete(response));
      }
      response.writeHead(seen.status, answer.headers);
      answer.on('error', () => response.destroy());
      // A stream that breaks off upstream must break off here too, and not look as if it had come to its end.
      answer.on('aborted', () => response.destroy());
      if (fault.bytesPerSecond === undefined) answer.pipe(response);
      else answer.pipe(new SlowDown(fault.bytesPerSecond)).pipe(response);
      response.flushHeaders();
    });
    request.pipe(upstream);
  }

  /** Exec and the like: after the same rules, bytes both ways. */
  #tunnel(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const path = request.url ?? '/';
    const seen: SeenRequest = { verb: 'UPGRADE', path, at: Date.now(), status: 0 };
    this.requests.push(seen);
    const fault = this.#ruleFor('UPGRADE', path)?.fault ?? {};
    socket.on('error', () => socket.destroy());
    if (fault.silent) return;
    if (fault.status !== undefined) {
      socket.end(`HTTP/1.1 ${fault.status} Fault\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
      return;
    }
    if (fault.lose !== undefined) {
      socket.destroy();
      return;
    }
    const { hostname, port, host } = this.#target;
    const address = { host: hostname, port: Number(port) };
    const begin = (): void => {
      const lines = request.rawHeaders.map((text, index) => (index % 2 === 0 ? `${text}: ` : `${text}\r\n`)).join('');
      upstream.write(`GET ${path} HTTP/1.1\r\n${lines.replace(/^host: .*$/im, `Host: ${host}`)}\r\n`);
      if (head.length > 0) upstream.write(head);
      upstream.pipe(socket);
      socket.pipe(upstream);
    };
    const upstream = this.#ca === null ? connect(address, begin) : connectTls({ ...address, ca: this.#ca }, begin);
    upstream.on('error', () => socket.destroy());
    upstream.on('close', () => socket.destroy());
    socket.on('close', () => upstream.destroy());
  }
}
