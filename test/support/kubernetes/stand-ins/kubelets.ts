/**
 * STAND-IN for the kubelets of all nodes. Nothing runs. Pods that the real scheduler has bound are copied into a world of the simulated
 * cluster in which only its kubelet is at work; what that one decides (pulled, running, ready, ended, gone) is written back to the real API
 * server. Exec and logs of the API server come in by a kubelet's HTTPS door and are answered from the same world.
 */
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { IncomingMessage } from 'node:http';
import type { KubeConfig } from '@kubernetes/client-node';
import { simulationAnnotations } from '../../../../src/simulated-cluster/annotations.ts';
import { type Cluster, createCluster } from '../../../../src/simulated-cluster/cluster.ts';
import { attachmentName } from '../../../../src/simulated-cluster/controllers/mounts.ts';
import { loadRun } from '../../../../src/simulated-cluster/controllers/runtime.ts';
import { type Front, serve } from '../../../../src/simulated-cluster/http-server.ts';
import type { SettingsInput } from '../../../../src/simulated-cluster/settings.ts';
import { keyOf } from '../../../../src/simulated-cluster/store.ts';
import type { KubeObject } from '../../../../src/simulated-cluster/types.ts';
import type { Api, Loose } from '../api.ts';
import { type Followed, follow } from './follow.ts';
import { StatusWriter } from './status-writer.ts';

const ATTACHMENTS = 'volumeattachments.storage.k8s.io';
const JOBS = '/apis/batch/v1/jobs';
/** What a pod may have to wait for, by the path that is followed. */
const AROUND: Record<string, string> = {
  nodes: '/api/v1/nodes',
  secrets: '/api/v1/secrets',
  configmaps: '/api/v1/configmaps',
  persistentvolumeclaims: '/api/v1/persistentvolumeclaims',
  [ATTACHMENTS]: '/apis/storage.k8s.io/v1/volumeattachments',
};

export interface KubeletOptions {
  api: Api;
  config: KubeConfig;
  /** The door's certificate; API servers do not check that of kubelets unless told to. */
  certificate: string;
  certificateKey: string;
  settings: SettingsInput;
}

export class StandInKubelets {
  readonly front: Front;
  readonly #cluster: Cluster;
  readonly #door: Server;
  readonly #writer: StatusWriter;
  readonly #followed: Followed[];
  /** How the pods of a Job are to behave, by the uid of the Job: the simulated cluster hands its annotations on, a real one does not. */
  readonly #behaviour = new Map<string, Record<string, string>>();
  /** Versions of the world that came from the API server, and so need not go back to it. */
  readonly #copied = new Set<number>();

  private constructor(options: KubeletOptions, cluster: Cluster, front: Front) {
    this.front = front;
    this.#cluster = cluster;
    this.#writer = new StatusWriter(options.api);
    this.#door = createServer({ cert: readFileSync(options.certificate), key: readFileSync(options.certificateKey) });
    this.#door.on('request', (request, response) => {
      request.url = asApiPath(request);
      front.server.emit('request', request, response);
    });
    this.#door.on('upgrade', (request, socket, head) => {
      request.url = asApiPath(request);
      front.server.emit('upgrade', request, socket, head);
    });
    cluster.subscribe(({ events }) => {
      for (const { type, resource, version, object } of events) {
        if (this.#copied.delete(version)) continue;
        if (resource === ATTACHMENTS && type === 'ADDED') queueMicrotask(() => this.#withdraw(object));
        if (resource !== 'pods') continue;
        if (type === 'DELETED') this.#writer.remove(object);
        else this.#writer.write(object);
      }
    });
    const { api, config } = options;
    this.#followed = Object.entries(AROUND).map(([resource, path]) =>
      follow(api, config, path, {
        changed: (object) => this.#around(resource, object),
        deleted: (object) => this.#change(() => this.#remove(resource, renamed(resource, object))),
      }),
    );
    const jobs = follow(api, config, JOBS, {
      changed: ({ metadata }) => this.#behaviour.set(metadata.uid, simulationAnnotations({ metadata } as KubeObject)),
      deleted: ({ metadata }) => this.#behaviour.delete(metadata.uid),
    });
    const pods = follow(api, config, '/api/v1/pods', {
      changed: (pod) => pod.spec.nodeName && this.#change(() => this.#pod(pod)),
      deleted: (pod) => this.#change(() => this.#gone(pod)),
    });
    this.#followed.push(jobs, pods);
  }

  static async start(options: KubeletOptions): Promise<StandInKubelets> {
    const cluster = createCluster({ now: Date.now(), settings: options.settings, only: ['kubelet', 'graves'] });
    const kubelets = new StandInKubelets(options, cluster, await serve(cluster, 0));
    await new Promise<void>((resolve) => kubelets.#door.listen(0, '127.0.0.1', resolve));
    await Promise.all(kubelets.#followed.map(({ listed }) => listed));
    return kubelets;
  }

  /** Where the API server finds exec and logs; belongs into the status of every node. */
  get port(): number {
    return (this.#door.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    this.#writer.stop();
    await Promise.all(this.#followed.map((each) => each.stop()));
    await this.front.close();
    this.#door.closeAllConnections();
    await new Promise((resolve) => this.#door.close(resolve));
  }

  #change(work: () => void): void {
    this.#cluster.at(Date.now(), work);
    this.front.wake();
  }

  #put(resource: string, object: Loose): void {
    const stored = this.#cluster.world.store.put(resource, object);
    this.#copied.add(Number(stored.metadata.resourceVersion));
  }

  #remove(resource: string, object: Loose): void {
    const gone = this.#cluster.world.store.remove(resource, keyOf(object));
    if (gone !== undefined) this.#copied.add(Number(gone.metadata.resourceVersion));
  }

  /** The simulated kubelet attaches by itself; here a real controller does. By now its attachment may be there, under the same name. */
  #withdraw(attachment: KubeObject): void {
    const now = this.#cluster.world.get(ATTACHMENTS, keyOf(attachment));
    if (now?.metadata.uid === attachment.metadata.uid) this.#change(() => this.#remove(ATTACHMENTS, attachment));
  }

  #around(resource: string, object: Loose): void {
    this.#change(() => {
      this.#put(resource, renamed(resource, object));
      const { world } = this.#cluster;
      // A pod that could not mount something looks again at once.
      for (const pod of world.store.values('pods')) {
        if (!loadRun(world, pod).mounted) world.wake('kubelet', keyOf(pod), 0);
      }
    });
  }

  /** The API server says what a pod is to be; how it is, we know better, unless another has ended it. */
  #pod(pod: Loose): void {
    const known = this.#cluster.world.get('pods', keyOf(pod));
    if (known !== undefined && known.metadata.uid !== pod.metadata.uid) this.#remove('pods', known);
    const ours = known?.metadata.uid === pod.metadata.uid;
    const ended = pod.status?.phase === 'Failed' || pod.status?.phase === 'Succeeded';
    const inherited = Object.assign(
      {},
      ...(pod.metadata.ownerReferences ?? []).map(({ uid }: Loose) => this.#behaviour.get(uid)),
    );
    const metadata = { ...pod.metadata, annotations: { ...inherited, ...pod.metadata.annotations } };
    this.#put('pods', {
      apiVersion: 'v1',
      kind: 'Pod',
      ...pod,
      metadata,
      status: ours && !ended ? known?.status : (pod.status ?? {}),
    });
  }

  #gone(pod: Loose): void {
    const known = this.#cluster.world.get('pods', keyOf(pod));
    if (known?.metadata.uid === pod.metadata.uid) this.#remove('pods', pod);
  }
}

/** The simulated kubelet looks for an attachment by a readable name; real names are digests. */
function renamed(resource: string, object: Loose): Loose {
  if (resource !== ATTACHMENTS) return object;
  const name = attachmentName(object.spec.source.persistentVolumeName, object.spec.nodeName);
  return { ...object, metadata: { ...object.metadata, name } };
}

/** /exec/NAMESPACE/POD/CONTAINER?command=.. and /containerLogs/.. of a kubelet, as the paths of the API that mean the same. */
function asApiPath(request: IncomingMessage): string {
  const url = new URL(request.url ?? '/', 'https://kubelet');
  const [, verb, namespace, pod, container = ''] = url.pathname.split('/');
  const query = new URLSearchParams(url.searchParams);
  query.set('container', container);
  for (const [theirs, ours] of Object.entries({ input: 'stdin', output: 'stdout', error: 'stderr' })) {
    if (query.has(theirs)) query.set(ours, query.get(theirs) === '1' || query.get(theirs) === 'true' ? 'true' : 'false');
    query.delete(theirs);
  }
  return `/api/v1/namespaces/${namespace}/pods/${pod}/${verb === 'containerLogs' ? 'log' : verb}?${query}`;
}
