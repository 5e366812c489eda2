/** DevServers on Kubernetes: create or adopt, prove the end, and reach inside. */
import type { V1Pod } from '@kubernetes/client-node';
import { NotYet, ServerGoneError, TerminalError } from '../../../actors/errors.ts';
import type { DevServers, Notice, ServerRef, ServerSpec } from '../../../actors/reservation/ports.ts';
import type { Secret } from '../../../actors/secret.ts';
import {
  ensureAccessSecret,
  ensureEnvironmentSecret,
  ensureService,
  type PodIdentity,
  patchKeys,
  readPod,
  removeLeftovers,
} from './access.ts';
import { briefly, type KubernetesClient } from './client.ts';
import { asPort, attempt, attemptOrNull, hasStatus } from './errors.ts';
import { JUPYTER_PORT, startInside, stopInside } from './jupyter.ts';
import { nodeAddress } from './node-view.ts';
import { postNotice } from './notices.ts';
import { belongsTo, jupyterServiceName, podName, sshServiceName } from './objects.ts';
import { POD_DEFAULTS, type PodSettings, podOf } from './pod-spec.ts';

export interface DevServersOptions {
  client: KubernetesClient;
  /** How pods look where the spec leaves it open. */
  pods?: Partial<Omit<PodSettings, 'namespace'>>;
}

export class KubernetesDevServers implements DevServers {
  readonly #client: KubernetesClient;
  readonly #settings: PodSettings;

  constructor({ client, pods }: DevServersOptions) {
    this.#client = client;
    this.#settings = { ...POD_DEFAULTS, ...pods, namespace: client.namespace };
  }

  /** Two round trips: the pod, then all that it owns at once. */
  create(spec: ServerSpec) {
    return asPort(async () => {
      const pod = await this.#createPod(spec);
      const name = sshServiceName(spec);
      const [{ nodePort }, host] = await Promise.all([
        ensureService(this.#client, spec, pod, { name, port: 22, label: 'ssh' }),
        spec.nodeAddress ?? this.#addressOf(spec.node),
        ensureAccessSecret(this.#client, spec, pod, spec),
        ensureEnvironmentSecret(this.#client, spec, pod, spec.environment),
      ]);
      const connection = {
        host,
        port: nodePort,
        podName: pod.name,
        node: spec.node,
        sshCommand: `ssh -p ${nodePort} dev@${host}`,
      };
      return { uid: pod.uid, name: pod.name, connection };
    });
  }

  async #createPod(spec: ServerSpec): Promise<PodIdentity> {
    const { core, namespace } = this.#client;
    const body = podOf(spec, this.#settings);
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

  startJupyter(server: ServerRef, token: Secret<string>): Promise<{ url: string; port: number }> {
    return this.#inside(server, async (name) => {
      const pod = await this.#living(server);
      await startInside(this.#client, name, token);
      const [{ nodePort }, host] = await Promise.all([
        ensureService(this.#client, server, pod, { name: jupyterServiceName(server), port: JUPYTER_PORT, label: 'jupyter' }),
        this.#addressOf(pod.node),
      ]);
      return { url: `http://${host}:${nodePort}/`, port: nodePort };
    });
  }

  stopJupyter(server: ServerRef): Promise<void> {
    return asPort(async () => {
      const { core, namespace } = this.#client;
      const name = jupyterServiceName(server);
      const service = await attemptOrNull(`reading Service ${name}`, () => core.readNamespacedService({ namespace, name }));
      if (service !== null && belongsTo(service.metadata, server)) {
        await attemptOrNull(`removing Service ${name}`, () =>
          core.deleteNamespacedService({ namespace, name, body: { preconditions: { uid: service.metadata?.uid ?? '' } } }),
        );
      }
      if ((await readPod(this.#client, server, podName(server))) !== null) await stopInside(this.#client, podName(server));
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
    const found = await attempt(`reading node ${node}`, () => this.#client.core.readNode({ name: node }));
    return nodeAddress(found) ?? node;
  }
}
