/** DevServers on Kubernetes: create or adopt, prove the end, and reach inside. */
import type { V1Pod } from '@kubernetes/client-node';
import { NotYet, ServerGoneError, TerminalError } from '../../../actors/errors.ts';
import type { DiskContents } from '../../../actors/disk/ports.ts';
import type { DevServers, Notice, ServerRef, ServerSpec } from '../../../actors/reservation/ports.ts';
import type { Secret } from '../../../actors/secret.ts';
import {
  ensureAccessSecret,
  ensureEnvironmentSecret,
  ensureScripts,
  patchKeys,
  readNode,
  readPod,
  removeLeftovers,
} from './access.ts';
import { briefly, type KubernetesClient } from './client.ts';
import { listInside } from './contents.ts';
import { asPort, attempt, attemptOrNull, hasStatus } from './errors.ts';
import { startInside, stopInside } from './jupyter.ts';
import { PORTS } from './layout.ts';
import { ensureJupyterPolicy, ensurePolicy, NETWORK_DEFAULTS, type NetworkSettings, policyCalls } from './network-policy.ts';
import { nodeAddress } from './node-view.ts';
import { postNotice } from './notices.ts';
import { belongsTo, jupyterPolicyName, jupyterServiceName, podName, sshServiceName } from './objects.ts';
import { type PodIdentity, removeOwned } from './owned.ts';
import { POD_DEFAULTS, type PodSettings, podOf } from './pod-spec.ts';
import { ensureGangService, ensureService, serviceCalls } from './services.ts';

export interface DevServersOptions {
  client: KubernetesClient;
  /** How pods look where the spec leaves it open. */
  pods?: Partial<Omit<PodSettings, 'namespace'>>;
  /** Who reaches them, and whom they reach. */
  network?: Partial<NetworkSettings>;
  /** The server of a file system that this person has alone, at /shared-personal. @throws NotYet while it is being made */
  personalFiles?: ((owner: string) => Promise<string>) | undefined;
}

export class KubernetesDevServers implements DevServers {
  readonly #client: KubernetesClient;
  readonly #settings: PodSettings;
  readonly #network: NetworkSettings;
  readonly #personalFiles: ((owner: string) => Promise<string>) | undefined;

  constructor({ client, pods, network, personalFiles }: DevServersOptions) {
    this.#personalFiles = personalFiles;
    this.#client = client;
    this.#network = { ...NETWORK_DEFAULTS, ...network };
    this.#settings = { ...POD_DEFAULTS, ...pods, namespace: client.namespace };
  }

  /** Three round trips: the pod; all that it owns at once; and the keys, without which it does not start, once its walls stand. */
  create(spec: ServerSpec) {
    return asPort(async () => this.#surround(spec, await this.#createPod(spec)));
  }

  restore(spec: ServerSpec) {
    return asPort(async () => this.#surround(spec, await this.#living(spec)));
  }

  /** All that belongs around a pod. */
  async #surround(spec: ServerSpec, pod: PodIdentity) {
    const client = this.#client;
    const name = sshServiceName(spec);
    const [{ nodePort }, host] = await Promise.all([
      ensureService(client, spec, pod, { name, port: PORTS.ssh, label: 'ssh', nodePort: spec.sshPort }),
      spec.nodeAddress ?? this.#addressOf(spec.node),
      ensurePolicy(client, spec, pod, this.#network).then(() => ensureAccessSecret(client, spec, pod, spec)),
      ensureScripts(client, spec, pod),
      ensureEnvironmentSecret(client, spec, pod, spec.environment),
      spec.gang?.index === 0 ? ensureGangService(client, spec, pod, spec.gang.id) : undefined,
    ]);
    const connection = {
      host,
      port: nodePort,
      podName: pod.name,
      node: spec.node,
      sshCommand: `ssh -p ${nodePort} dev@${host}`,
    };
    return { uid: pod.uid, name: pod.name, connection };
  }

  async #createPod(spec: ServerSpec): Promise<PodIdentity> {
    const { core, namespace } = this.#client;
    const personalServer = (await this.#personalFiles?.(spec.owner)) ?? null;
    const body = podOf(spec, { ...this.#settings, personalServer });
    const name = podName(spec);
    let pod: V1Pod;
    try {
      pod = await attempt(`creating pod ${name}`, () => core.createNamespacedPod({ namespace, body }, briefly()));
    } catch (error) {
      if (!hasStatus(error, 409)) throw error;
      const found = await attemptOrNull(`reading pod ${name}`, () => core.readNamespacedPod({ namespace, name }));
      if (found === null) throw new NotYet(100, `pod ${name} was there and is no more`);
      if (!belongsTo(found.metadata, spec)) throw new TerminalError(`A pod named ${name} is on the cluster and is not ours`);
      pod = found;
    }
    return { name, uid: pod.metadata?.uid ?? '' };
  }

  /** The uid goes with the request, so that only the pod we looked at can be deleted. */
  remove(server: ServerRef, { force }: { force: boolean }): Promise<'gone' | 'terminating'> {
    return asPort(async () => {
      const { core, namespace } = this.#client;
      const name = podName(server);
      const pod = await readPod(this.#client, server, name);
      if (pod === null) return 'gone';
      const terminating = pod.metadata?.deletionTimestamp !== undefined;
      if (terminating && !force) return 'terminating';
      const uid = pod.metadata?.uid ?? '';
      const body = { preconditions: { uid }, ...(force ? { gracePeriodSeconds: 0 } : {}) };
      try {
        await attemptOrNull(`deleting pod ${name}`, () => core.deleteNamespacedPod({ namespace, name, body }));
      } catch (error) {
        if (!hasStatus(error, 409)) throw error;
      }
      return (await readPod(this.#client, server, name)) === null ? 'gone' : 'terminating';
    });
  }

  exists(server: ServerRef): Promise<boolean> {
    return asPort(async () => (await readPod(this.#client, server, podName(server))) !== null);
  }

  removeAccess(server: ServerRef): Promise<void> {
    return asPort(() => removeLeftovers(this.#client, server));
  }

  setKeys(server: ServerRef, authorizedKeys: string[]): Promise<void> {
    return asPort(async () => {
      if (await patchKeys(this.#client, server, authorizedKeys)) return;
      // The pod is there and its Secret is not: a crash came between them.
      const pod = await this.#living(server);
      await ensureAccessSecret(this.#client, server, pod, { authorizedKeys, jupyterToken: null });
      // Should another have made it in the meantime, it was adopted with that one's keys.
      await patchKeys(this.#client, server, authorizedKeys);
    });
  }

  post(server: ServerRef, notice: Notice): Promise<void> {
    return this.#inside(server, (pod) => postNotice(this.#client, pod, notice));
  }

  startJupyter(server: ServerRef, token: Secret<string>, port: number | null = null): Promise<{ url: string; port: number }> {
    return this.#inside(server, async (name) => {
      const pod = await this.#living(server);
      await startInside(this.#client, name, token);
      const [{ nodePort }, host] = await Promise.all([
        ensureService(this.#client, server, pod, {
          name: jupyterServiceName(server),
          port: PORTS.jupyter,
          label: 'jupyter',
          nodePort: port,
        }),
        this.#addressOf(pod.node),
        ensureJupyterPolicy(this.#client, server, pod, this.#network),
      ]);
      return { url: `http://${host}:${nodePort}/`, port: nodePort };
    });
  }

  stopJupyter(server: ServerRef): Promise<void> {
    return asPort(async () => {
      await Promise.all([
        removeOwned(server, serviceCalls(this.#client, jupyterServiceName(server))),
        removeOwned(server, policyCalls(this.#client, jupyterPolicyName(server))),
      ]);
      if ((await readPod(this.#client, server, podName(server))) !== null) await stopInside(this.#client, podName(server));
    });
  }

  listDisk(server: ServerRef): Promise<DiskContents | null> {
    return asPort(async () => {
      await this.#living(server);
      return listInside(this.#client, podName(server));
    });
  }

  /** Work inside a server; a server that is gone can never be reached again. */
  #inside<T>(server: ServerRef, work: (pod: string) => Promise<T>): Promise<T> {
    return asPort(async () => {
      try {
        return await work(podName(server));
      } catch (error) {
        if (hasStatus(error, 404)) await this.#living(server);
        throw error;
      }
    });
  }

  /** @throws ServerGoneError if the server is gone or going */
  async #living(server: ServerRef): Promise<PodIdentity & { node: string }> {
    const pod = await readPod(this.#client, server, podName(server));
    if (pod === null || pod.metadata?.deletionTimestamp !== undefined) throw new ServerGoneError();
    return { name: podName(server), uid: pod.metadata?.uid ?? '', node: pod.spec?.nodeName ?? '' };
  }

  async #addressOf(node: string): Promise<string> {
    return nodeAddress(await readNode(this.#client, node)) ?? node;
  }
}
