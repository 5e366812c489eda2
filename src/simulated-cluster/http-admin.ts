import type { Server } from 'node:http';
import { z } from 'zod';
import { evictPod } from './api/pod-subresources.ts';
import type { Cluster } from './cluster.ts';
import { appendLog } from './controllers/runtime.ts';
import { LOST_NODES } from './controllers/kubelet.ts';
import { statusObject } from './errors.ts';
import type { Faults } from './http-faults.ts';
import type { Clock } from './http-server.ts';
import type { Streams } from './http-streams.ts';
import { RESOURCES } from './resources.ts';
import type { ApiResponse, KubeObject, Loose } from './types.ts';

const refuseSchema = z.object({ kind: z.literal('refuse'), ms: z.number().min(0) });

/** The calls under /simulation/, outside the Kubernetes API: faults, and what befalls pods and nodes. */
export class Admin {
  private readonly cluster: Cluster;
  private readonly faults: Faults;
  private readonly streams: Streams;
  private server: Server | undefined;
  private clock: Clock | undefined;

  constructor(cluster: Cluster, faults: Faults, streams: Streams) {
    this.cluster = cluster;
    this.faults = faults;
    this.streams = streams;
  }

  listenOn(server: Server, clock: Clock): void {
    this.server = server;
    this.clock = clock;
  }

  answer(method: string, path: string, body: Loose): ApiResponse {
    try {
      const result = this.dispatch(method, path, body);
      this.clock?.wake();
      return result;
    } catch (error) {
      if (error instanceof z.ZodError) return failure(422, 'Invalid', z.prettifyError(error));
      throw error;
    }
  }

  private dispatch(method: string, path: string, body: Loose): ApiResponse {
    const [, , kind, ...rest] = path.split('/').map(decodeURIComponent);
    if (kind === 'state' && method === 'GET') return { status: 200, body: this.state() };
    if (kind === 'faults') {
      if (method === 'GET') return { status: 200, body: { faults: this.faults.list(), held: this.faults.waiting } };
      if (method === 'DELETE') {
        this.faults.clear();
        return { status: 200, body: { faults: [] } };
      }
      if (method === 'POST') return this.fault(body);
    }
    if (kind === 'pods' && method === 'POST' && rest.length === 3)
      return this.pod(`${rest[0]}/${rest[1]}`, rest[2] ?? '', body ?? {});
    if (kind === 'nodes' && method === 'POST' && rest.length === 2) return this.node(rest[0] ?? '', rest[1] ?? '');
    return failure(404, 'NotFound', `no such call: ${method} ${path}`);
  }

  private state(): Loose {
    const { store } = this.cluster.world;
    return {
      now: store.now,
      resourceVersion: String(store.version),
      compactedResourceVersion: String(store.compactedVersion),
      nextWakeup: this.cluster.nextWakeup() ?? null,
      openWatches: this.streams.openWatches,
      lostNodes: store.side.keys(LOST_NODES),
      faults: this.faults.list(),
      objects: Object.fromEntries(RESOURCES.map(({ id }) => [id, store.count(id)])),
    };
  }

  private fault(body: Loose): ApiResponse {
    switch (body?.kind) {
      case 'cut-watches':
        return { status: 200, body: { cut: this.streams.cut() } };
      case 'expire-watches':
        this.cluster.world.store.compact();
        return { status: 200, body: { cut: this.streams.cut(true) } };
      case 'refuse':
        return this.refuse(refuseSchema.parse(body).ms);
      default:
        return { status: 201, body: this.faults.add(body) };
    }
  }

  /** Stops listening for a while: new connections are refused by the system, open ones are broken. */
  private refuse(ms: number): ApiResponse {
    const { server } = this;
    const address = server?.address();
    if (server === undefined || typeof address !== 'object' || address === null) return failure(409, 'Conflict', 'not listening');
    setImmediate(() => {
      server.close();
      server.closeAllConnections();
      setTimeout(() => server.listen(address.port, '127.0.0.1'), ms);
    });
    return { status: 200, body: { refusingForMs: ms } };
  }

  private pod(key: string, what: string, body: Loose): ApiResponse {
    return this.cluster.at(Date.now(), () => {
      const pod = this.cluster.world.get('pods', key);
      if (pod === undefined) return failure(404, 'NotFound', `pods "${key}" not found`);
      if (what !== 'log' && !pod.spec.nodeName) return failure(409, 'Conflict', `pod ${key} is not bound to a node`);
      return this.befall(pod, what, body);
    });
  }

  private befall(pod: KubeObject, what: string, body: Loose): ApiResponse {
    const { kubelet } = this.cluster;
    const container: string | undefined = body.container;
    const ended = (end: { exitCode: number; reason: string }): ApiResponse =>
      kubelet.endContainer(pod, container, end) ? DONE : failure(409, 'Conflict', 'that container is not running');
    switch (what) {
      case 'oom':
        return ended({ exitCode: 137, reason: 'OOMKilled' });
      case 'kill':
        return ended({ exitCode: body.exitCode ?? 137, reason: 'Error' });
      case 'evict':
        kubelet.failPod(pod, 'Evicted', body.message ?? 'The node was low on resource: ephemeral-storage.', true);
        return DONE;
      case 'fail':
        kubelet.failPod(pod, body.reason ?? 'Error', body.message ?? 'The pod failed.', false);
        return DONE;
      case 'unready':
      case 'ready':
        kubelet.setUnready(pod, what === 'unready');
        return DONE;
      case 'log':
        appendLog(this.cluster.world, pod.metadata.uid, container ?? pod.spec.containers[0].name, String(body.text ?? ''));
        return DONE;
      default:
        return failure(404, 'NotFound', `no such call: ${what}; there are oom, kill, evict, fail, unready, ready, log`);
    }
  }

  private node(name: string, what: string): ApiResponse {
    const { world, nodes } = this.cluster;
    return this.cluster.at(Date.now(), () => {
      if (world.get('nodes', name) === undefined) return failure(404, 'NotFound', `nodes "${name}" not found`);
      const cordon = (unschedulable: boolean): void => {
        world.update('nodes', name, (draft) => {
          draft.spec = { ...draft.spec };
          if (unschedulable) draft.spec.unschedulable = true;
          else delete draft.spec.unschedulable;
        });
      };
      switch (what) {
        case 'lose':
          nodes.lose(name);
          return DONE;
        case 'recover':
          nodes.recover(name);
          return DONE;
        case 'cordon':
        case 'uncordon':
          cordon(what === 'cordon');
          return DONE;
        case 'drain':
          cordon(true);
          for (const key of [...world.store.indexes.podsOnNode(name)].sort()) {
            const pod = world.get('pods', key);
            if (pod !== undefined && pod.metadata.deletionTimestamp === undefined) evictPod(world, pod, undefined);
          }
          return DONE;
        default:
          return failure(404, 'NotFound', `no such call: ${what}; there are lose, recover, cordon, uncordon, drain`);
      }
    });
  }
}

const DONE: ApiResponse = { status: 200, body: { done: true } };

function failure(code: number, reason: string, message: string): ApiResponse {
  return { status: code, body: statusObject(code, reason, message) };
}
