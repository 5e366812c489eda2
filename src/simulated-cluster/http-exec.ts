import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { containerOf, podOf } from './api/logs.ts';
import type { Cluster } from './cluster.ts';
import { ApiError, badRequest, unknownPath } from './errors.ts';
import { execute, readsInput } from './exec.ts';
import type { Clock } from './http-server.ts';
import { parsePath, type Target } from './resources.ts';
import type { KubeObject, Loose } from './types.ts';

const PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io'];
const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const STATUS = 3;
const CLOSE = 255;

/** Serves exec over WebSocket: v5 (with a close signal for stdin) and v4. */
export function attachExec(server: Server, cluster: Cluster, clock: Clock): void {
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => PROTOCOLS.find((each) => offered.has(each)) ?? false,
  });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    // The server lets go of a socket that is upgraded: a client that dies while it is refused would end the cluster.
    socket.on('error', () => socket.destroy());
    try {
      const url = new URL(request.url ?? '/', 'http://127.0.0.1');
      const target = parsePath(url.pathname);
      if (target?.subresource !== 'exec') throw unknownPath();
      const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((each) => each.trim());
      if (request.headers.upgrade?.toLowerCase() !== 'websocket' || !PROTOCOLS.some((each) => offered.includes(each))) {
        throw badRequest(`unable to upgrade: exec is served over WebSocket with one of ${PROTOCOLS.join(', ')}`);
      }
      const session = prepare(cluster, target, url.searchParams);
      sockets.handleUpgrade(request, socket, head, (connection) => converse(cluster, clock, connection, session));
    } catch (error) {
      refuse(socket, error);
    }
  });
}

interface ExecSession {
  pod: KubeObject;
  container: string;
  argv: string[];
  stdin: boolean;
}

function prepare(cluster: Cluster, target: Target, query: URLSearchParams): ExecSession {
  const pod = podOf(cluster.world, target);
  const argv = query.getAll('command');
  if (argv.length === 0) throw badRequest('you must specify at least one command for the container');
  if (pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') {
    throw badRequest(`cannot exec into a container in a completed pod; current phase is ${pod.status.phase}`);
  }
  if (!pod.spec.nodeName) throw badRequest(`pod ${pod.metadata.name} does not have a host assigned`);
  const container = containerOf(pod, query.get('container') ?? undefined);
  const status = [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])].find(
    (each: Loose) => each.name === container,
  );
  if (status?.state?.running === undefined || cluster.kubelet.isLost(pod.spec.nodeName)) {
    throw new ApiError(
      500,
      'InternalError',
      `Internal error occurred: unable to upgrade connection: container not found ("${container}")`,
    );
  }
  return { pod, container, argv, stdin: query.get('stdin') === 'true' };
}

function converse(cluster: Cluster, clock: Clock, connection: WebSocket, session: ExecSession): void {
  const input: Buffer[] = [];
  let ran = false;
  const send = (channel: number, data: string): void => {
    if (connection.readyState !== connection.OPEN) return;
    connection.send(Buffer.concat([Buffer.from([channel]), Buffer.from(data)]));
  };
  const run = (): void => {
    if (ran) return;
    ran = true;
    const { pod, container, argv } = session;
    const result = cluster.at(clock.now(), () =>
      execute(cluster.world, pod, container, argv, Buffer.concat(input).toString('utf8')),
    );
    clock.wake();
    if (result.stdout !== '') send(STDOUT, result.stdout);
    if (result.stderr !== '') send(STDERR, result.stderr);
    send(STATUS, JSON.stringify(exitStatus(result.exitCode)));
    connection.close(1000);
  };
  connection.on('message', (data: Buffer) => {
    if (data[0] === STDIN) input.push(data.subarray(1));
    else if (data[0] === CLOSE && data[1] === STDIN) run();
  });
  connection.on('error', () => connection.terminate());
  if (!session.stdin || !readsInput(session.argv)) run();
  // A v4 client can end its input only by closing: what came by then is the whole input.
  else connection.on('close', run);
}

function exitStatus(exitCode: number): Loose {
  if (exitCode === 0) return { metadata: {}, status: 'Success' };
  return {
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code: exit status ${exitCode}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(exitCode) }] },
  };
}

function refuse(socket: Duplex, error: unknown): void {
  const problem = error instanceof ApiError ? error : new ApiError(500, 'InternalError', String(error));
  const body = JSON.stringify(problem.status());
  socket.end(
    `HTTP/1.1 ${problem.code} ${problem.reason}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}
