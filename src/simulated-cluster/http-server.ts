import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Cluster } from './cluster.ts';
import { ApiError, badRequest, statusObject } from './errors.ts';
import { Admin } from './http-admin.ts';
import { attachExec } from './http-exec.ts';
import { Faults } from './http-faults.ts';
import { Streams } from './http-streams.ts';
import { decodeProtobuf, PROTOBUF } from './protobuf.ts';
import { parsePath } from './resources.ts';
import type { ApiRequest, Loose, Query } from './types.ts';
import { bodyJson, encodingOf } from './wire.ts';

const BODY_LIMIT = 3 * 1024 * 1024;

export interface Front {
  server: Server;
  port: number;
  /** To be called after a change that came by another way than this front: sets the alarm for what it made due. */
  wake(): void;
  /** Ends open watches, stops listening, and waits for requests under way. */
  close(): Promise<void>;
}

/** Serves a cluster over HTTP on 127.0.0.1, driving its clock by the real one. Rejects when the port is taken. */
export async function serve(cluster: Cluster, port: number): Promise<Front> {
  const faults = new Faults(cluster.world.settings.seed);
  const streams = new Streams(cluster);
  const admin = new Admin(cluster, faults, streams);
  const clock = driveClock(cluster);
  const server = createServer((request, response) => {
    void respond(request, response).catch((error: unknown) => {
      const message = error instanceof Error ? error.message : String(error);
      if (!(error instanceof ApiError))
        process.stderr.write(`simulated cluster: ${error instanceof Error ? error.stack : message}\n`);
      const body = error instanceof ApiError ? error.status() : statusObject(500, 'InternalError', message);
      send(response, body.code, body);
    });
  });

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { path, search, query } = locationOf(request.url ?? '/');
    const body = await readBody(request);
    if (path.startsWith('/simulation/')) {
      const result = admin.answer(request.method ?? 'GET', path, parseBody(body));
      send(response, result.status, result.body);
      return;
    }
    const call: ApiRequest = {
      method: (request.method ?? 'GET') as ApiRequest['method'],
      path,
      query,
      contentType: request.headers['content-type']?.split(';')[0] ?? 'application/json',
      accept: request.headers.accept ?? '',
      givesBody: true,
    };
    const watching = call.method === 'GET' && (query.watch === 'true' || query.watch === '1');
    const fault = await faults.meet(watching ? 'WATCH' : call.method, path + search);
    if (fault?.drop === 'before') {
      request.socket.destroy();
      return;
    }
    if (fault?.status !== undefined) {
      if (fault.retryAfterSeconds !== undefined) response.setHeader('Retry-After', String(fault.retryAfterSeconds));
      send(response, fault.status.code, fault.status);
      return;
    }
    if (call.method !== 'GET' && call.contentType === PROTOBUF && body.length > 0) {
      call.body = decodeProtobuf(body);
      call.contentType = 'application/json';
    } else if (call.method !== 'GET') call.body = parseBody(body, call.contentType);
    const target = call.method === 'GET' ? parsePath(path) : undefined;
    if (target !== undefined && watching && cluster.world.serves(target.resource)) {
      streams.watch(target, call, response);
      return;
    }
    if (target?.subresource === 'log') {
      streams.log(target, query, response);
      return;
    }
    if (path.endsWith('/exec') && parsePath(path)?.subresource === 'exec') {
      throw badRequest('exec needs a WebSocket (v4.channel.k8s.io or v5.channel.k8s.io); SPDY is not served');
    }
    const result = cluster.handle(call, clock.now());
    clock.wake();
    if (fault?.drop === 'after') request.socket.destroy();
    else send(response, result.status, result.body);
  }

  attachExec(server, cluster, clock);
  const upgraded = new Set<Duplex>();
  server.on('upgrade', (_, socket) => {
    upgraded.add(socket);
    socket.once('close', () => upgraded.delete(socket));
  });
  server.keepAliveTimeout = 65_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      server.off('error', reject);
      resolve();
    });
  });
  admin.listenOn(server, clock);
  clock.wake();
  const address = server.address();
  return {
    server,
    port: typeof address === 'object' && address !== null ? address.port : port,
    wake: clock.wake,
    async close() {
      clock.stop();
      streams.cut();
      faults.clear();
      // The server no longer knows of these, and would wait for them.
      for (const socket of upgraded) socket.destroy();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const force = setTimeout(() => server.closeAllConnections(), 2000);
      await closed;
      clearTimeout(force);
    },
  };
}

export interface Clock {
  now(): number;
  /** Sets the alarm for the next thing the cluster does by itself. */
  wake(): void;
  stop(): void;
}

/** Lets the cluster's time pass with the real one: an alarm for its next timer, set anew after every call. */
function driveClock(cluster: Cluster): Clock {
  let alarm: NodeJS.Timeout | undefined;
  /** What the alarm is set for. */
  let due: number | undefined;
  let stopped = false;
  const wake = (): void => {
    const next = cluster.nextWakeup();
    if (next === due || stopped) return;
    clearTimeout(alarm);
    due = next;
    if (next === undefined) return;
    // setTimeout takes no more than 2^31 ms; a far timer is looked at again every hour.
    alarm = setTimeout(
      () => {
        due = undefined;
        try {
          cluster.tick(Date.now());
        } catch (error) {
          // One controller's fault must not end the cluster for everyone; the timer that met it is spent.
          process.stderr.write(`simulated cluster: ${(error as Error).stack}\n`);
        }
        wake();
      },
      Math.min(Math.max(0, next - Date.now()), 3_600_000),
    );
  };
  return {
    now: () => Date.now(),
    wake,
    stop: () => {
      stopped = true;
      clearTimeout(alarm);
    },
  };
}

/** The whole body of a request; rejects when it is too long or breaks off. */
function readBody(request: IncomingMessage): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= BODY_LIMIT) chunks.push(chunk);
      else reject(new ApiError(413, 'RequestEntityTooLarge', `Request entity too large: limit is ${BODY_LIMIT}`));
    });
    request.once('end', () => resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)));
    request.once('error', reject);
  });
}

function parseBody(body: Buffer, contentType = 'application/json'): Loose {
  // What is not JSON is refused later, by the verb, with 415.
  if (body.length === 0 || !contentType.includes('json')) return undefined;
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw badRequest(`the body of the request is not JSON: ${(error as Error).message}`);
  }
}

interface Location {
  path: string;
  /** The query as sent, with its question mark. */
  search: string;
  query: Query;
}

/** What makes a path other than it is written: a query, an escape, a dot segment. Most requests come without. */
const NOT_PLAIN = /[^\w./-]|\/\.|^\/\//;

function locationOf(text: string): Location {
  if (!NOT_PLAIN.test(text)) return { path: text, search: '', query: {} };
  const url = new URL(text, 'http://127.0.0.1');
  const query: Query = {};
  for (const key of url.searchParams.keys()) {
    const values = url.searchParams.getAll(key);
    query[key] = values.length > 1 ? values : values[0];
  }
  return { path: url.pathname, search: url.search, query };
}

function send(response: ServerResponse, status: number, body: Loose): void {
  if (response.headersSent || response.destroyed) return;
  const text = typeof body === 'string' ? body : bodyJson(body);
  const length = Buffer.byteLength(text);
  response.writeHead(status, {
    'Content-Type': typeof body === 'string' ? 'text/plain; charset=utf-8' : 'application/json',
    'Content-Length': length,
  });
  response.end(text, encodingOf(text, length));
}
