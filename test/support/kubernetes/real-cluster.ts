/**
 * A real Kubernetes API server for a test file. Ask for it at the top of the file:
 *
 *     const cluster = await realCluster();
 *     describe.skipIf(cluster.missing)('...', () => { ... cluster.client ... });
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, inject } from 'vitest';
import { createClient, type KubernetesClient } from '../../../src/providers/kubernetes/client.ts';
import { makeScratch, removeScratch } from '../scratch.ts';
import { type Access, Api, type Loose } from './api.ts';
import type { SharedAnswer } from './coordinator.ts';
import { existingCluster } from './existing.ts';
import { FaultProxy } from './fault-proxy.ts';
import type { Fleet } from './fleet.ts';
import { writeKubeconfig } from './kubeconfig.ts';
import { type ClusterProcess, startClusterProcess } from './process.ts';

export interface RealClusterOptions {
  /** A server of the file's own instead of the run's: to restart it, or to have nobody else's pods and nodes on it. Some 4 s more. */
  own?: boolean;
  /** Nodes of an own server; the shared one has h100-1, h100-2 and cpu-x86-1. */
  fleet?: Fleet;
  /** Delays of the stand-ins of an own server, in milliseconds (see simulated-cluster/settings.ts). */
  delays?: Record<string, number>;
  /** False: an own server without VolumeSnapshots and what stands in for their controller. */
  snapshots?: boolean;
}

export class RealCluster {
  /** Why there is none, for `describe.skipIf`; empty when there is one. */
  readonly missing: string = '';
  /** The file's own namespace, empty at first and gone at the end. */
  readonly namespace: string;
  /** Of one who may do everything, in this namespace. */
  readonly kubeconfig: string;
  readonly access: Access;
  readonly api: Api;
  /** As the service would use it, in this namespace. */
  readonly client: KubernetesClient;
  /** Whether pods, volumes and snapshots are moved by stand-ins, which `befall` steers; false on an existing cluster. */
  readonly standIns: boolean;
  readonly certificateKey: string | null;
  readonly #control: string | null;
  readonly #folder: string;
  readonly #proxies: FaultProxy[] = [];

  constructor(facts: Access & Partial<ClusterProcess['facts']>, folder: string) {
    this.namespace = `test-${randomBytes(5).toString('hex')}`;
    this.access = { server: facts.server, caFile: facts.caFile, token: facts.token };
    this.standIns = facts.control !== undefined;
    this.certificateKey = facts.certificateKey ?? null;
    this.#control = facts.control ?? null;
    this.#folder = folder;
    this.kubeconfig = join(folder, 'kubeconfig-of-namespace');
    writeKubeconfig(this.kubeconfig, this.access, this.namespace);
    this.api = new Api(this.access);
    this.client = createClient({ kubeconfig: this.kubeconfig, namespace: this.namespace });
  }

  /** The path of a kind of object in this namespace: `pods`, `services`, `apis/batch/v1:jobs`. */
  path(kind: string): string {
    const [group, plural] = kind.includes(':') ? kind.split(':') : ['api/v1', kind];
    return `/${group}/namespaces/${this.namespace}/${plural}`;
  }

  /** All objects of a kind in this namespace. */
  async list(kind: string): Promise<Loose[]> {
    return (await this.api.ask('GET', this.path(kind))).items;
  }

  /**
   * Make something happen that no API call does: `pods/NAME/oom` (kill, fail, evict, unready, ready), `nodes/NAME/lose` (recover),
   * `api-server/restart` with { forMs }, `fleet` with { fleet }.
   */
  async befall(what: string, body: unknown = {}): Promise<void> {
    if (this.#control === null) throw new Error('nothing stands in for anything on an existing cluster');
    const [subject, ...rest] = what.split('/');
    const path = subject === 'pods' ? `simulation/pods/${this.namespace}/${rest.join('/')}` : what;
    const answer = await fetch(`${this.#control}/${path}`, { method: 'POST', body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${what}: ${answer.status} ${await answer.text()}`);
  }

  /** What the stand-in kubelets have noted about a pod: for when it does not do what it should. */
  async kubeletEvents(pod: string): Promise<string[]> {
    const answer = await fetch(`${this.#control}/api/v1/namespaces/${this.namespace}/events`);
    const { items } = (await answer.json()) as Loose;
    return items
      .filter(({ involvedObject }: Loose) => involvedObject.name === pod)
      .map(({ reason, message, count }: Loose) => `${reason} (${count}): ${message}`);
  }

  /** A proxy before the API server that makes bad days, with a client (and its kubeconfig) that goes through it. Closed with the file. */
  async faulty(options: { requestTimeoutMs?: number; token?: string } = {}) {
    if (this.certificateKey === null) throw new Error('the certificate of an existing cluster cannot be shown by a proxy');
    const proxy = await FaultProxy.to({ ...this.access, certificateKey: this.certificateKey });
    this.#proxies.push(proxy);
    const { token = this.access.token, ...rest } = options;
    const kubeconfig = this.kubeconfigFor({ server: proxy.url, token });
    return { proxy, kubeconfig, client: createClient({ kubeconfig, namespace: this.namespace, ...rest }) };
  }

  /** A kubeconfig for another address (a proxy's) or another token, in this namespace. */
  kubeconfigFor(change: Partial<Access> & { namespace?: string }): string {
    const { namespace, ...access } = change;
    const file = join(this.#folder, `kubeconfig-${randomBytes(5).toString('hex')}`);
    writeKubeconfig(file, { ...this.access, ...access }, namespace ?? this.namespace);
    return file;
  }

  /** End what belongs to the file. */
  async close(): Promise<void> {
    await Promise.all(this.#proxies.map((proxy) => proxy.close()));
    await this.api.call('DELETE', `/api/v1/namespaces/${this.namespace}`).catch(() => undefined);
    this.api.close();
  }

  /** A token of a service account of this namespace, as its pods would have. */
  async tokenFor(serviceAccount: string): Promise<string> {
    const path = `${this.path('serviceaccounts')}/${serviceAccount}/token`;
    const request = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds: 7_200 } };
    return (await this.api.ask('POST', path, request)).status.token;
  }

  /** Plain calls as somebody else; to be closed. */
  as(token: string): Api {
    return new Api({ ...this.access, token });
  }

  /** A namespace in which pods can be made: its service account has come. */
  async makeNamespace(name: string): Promise<void> {
    await this.api.ensure('/api/v1/namespaces', { metadata: { name } });
    for (let tries = 0; ; tries += 1) {
      const { body } = await this.api.call('GET', `/api/v1/namespaces/${name}/serviceaccounts/default`);
      if (body.secrets?.length > 0 || (body.metadata !== undefined && !this.standIns)) return;
      if (tries > 1_200) throw new Error(`the namespace ${name} got no service account`);
      await pause(25);
    }
  }
}

/** The cluster of the run (or one of its own), with a namespace for this file. Call it at the top of a file, outside of hooks. */
export async function realCluster(options: RealClusterOptions = {}): Promise<RealCluster> {
  const existing = options.own ? null : existingCluster();
  if (existing !== null) return opened(new RealCluster(existing, makeScratch('kubeconfig')), async () => undefined);
  const shared = (await (await fetch(inject('kubernetes'))).json()) as SharedAnswer;
  if ('missing' in shared) return absent(shared.missing);
  if (!options.own) return opened(new RealCluster(shared, makeScratch('kubeconfig')), async () => undefined);
  const folder = makeScratch('kubernetes');
  const { fleet = {}, delays = {}, snapshots = true } = options;
  const cluster = await startClusterProcess({ programs: shared.programs, folder, fleet, delays, snapshots });
  return opened(new RealCluster(cluster.facts, folder), cluster.stop);
}

async function opened(cluster: RealCluster, stop: () => Promise<void>): Promise<RealCluster> {
  await cluster.makeNamespace(cluster.namespace);
  afterAll(async () => {
    await cluster.close();
    await stop();
    await removeScratch(join(cluster.kubeconfig, '..'));
  });
  return cluster;
}

/** Every use of what is not there says why. */
function absent(missing: string): RealCluster {
  console.warn(`skipped, for there is no Kubernetes API server: ${missing}`);
  return new Proxy({ missing } as RealCluster, {
    get(target, name) {
      if (name === 'missing' || typeof name === 'symbol' || name === 'then') return Reflect.get(target, name);
      if (name === 'namespace' || name === 'kubeconfig') return '';
      throw new Error(missing);
    },
  });
}
