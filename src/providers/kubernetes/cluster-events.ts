/** ClusterEvents: nodes and pods of the whole cluster as they change, from two informers. Never a list per node. */
import type { V1Node, V1Pod } from '@kubernetes/client-node';
import type { ClusterChanges, ClusterEvents, NodeView, PodView } from '../../../actors/gpu-pool/ports.ts';
import type { KubernetesClient } from './client.ts';
import { attempt } from './errors.ts';
import { Informer } from './informers.ts';
import { nodeView } from './node-view.ts';
import { podView } from './pod-view.ts';

export interface ClusterEventsOptions {
  client: KubernetesClient;
  /** Objects a page. Default 500. */
  pageSize?: number;
  /** Silence after which a watch is renewed, in milliseconds. Default 25,000. */
  idleTimeoutMs?: number;
  random?: () => number;
  /** Trouble that was met; the feed goes on by itself. */
  onError?: (what: string, error: unknown, retryInMs: number) => void;
}

/** Informers on nodes and pods of all namespaces; each restarts by itself after any error. */
export class KubernetesEvents implements ClusterEvents {
  readonly #options: ClusterEventsOptions;
  #informers: { stop(): Promise<void> }[] = [];
  #contact: number | null = null;
  #giveUp: (() => void) | null = null;

  constructor(options: ClusterEventsOptions) {
    this.#options = options;
  }

  lastContact(): number | null {
    return this.#contact;
  }

  /**
   * Resolves when nodes and pods have been listed once, however long the API server is away before that.
   * @throws Error if stopped before then, or started twice
   */
  async start(changes: ClusterChanges): Promise<void> {
    if (this.#informers.length > 0) throw new Error('the feed of the cluster runs already');
    const { client } = this.#options;
    const waiting = new Set(['nodes', 'pods']);
    await new Promise<void>((resolve, reject) => {
      this.#giveUp = () => reject(new Error('stopped before the first complete list of the cluster'));
      const listed = (what: string): void => {
        waiting.delete(what);
        if (waiting.size > 0) return;
        changes.synced();
        resolve();
      };
      // A node made anew keeps its name: the old one's end must be told before the new one's birth, and not after it.
      const uidByName = new Map<string, string>();
      const nodes = new Informer<V1Node, NodeView & { seen: string }>({
        ...this.#common('nodes', '/api/v1/nodes'),
        list: async ({ limit, next }) => page(await attempt('listing nodes', () => client.core.listNode(paging(limit, next)))),
        // Kubelets write their nodes again and again; only what we look at makes a change.
        trim: (node) => {
          const view = nodeView(node);
          return { ...view, seen: JSON.stringify(view) };
        },
        uidOf: ({ uid }) => uid,
        changed: ({ seen: _seen, ...view }) => {
          const before = uidByName.get(view.name);
          if (before !== undefined && before !== view.uid) changes.nodeDeleted({ name: view.name }, true);
          uidByName.set(view.name, view.uid);
          changes.nodeChanged(view);
        },
        deleted: ({ name, uid }, seen) => {
          if (uidByName.get(name) !== uid) return;
          changes.nodeDeleted({ name }, seen);
          uidByName.delete(name);
        },
        listed: () => listed('nodes'),
        same: (before, after) => before.seen === after.seen,
      });
      const pods = new Informer<V1Pod, PodView>({
        ...this.#common('pods', '/api/v1/pods'),
        list: async ({ limit, next }) =>
          page(await attempt('listing pods', () => client.core.listPodForAllNamespaces(paging(limit, next)))),
        trim: (pod) => podView(pod, client.namespace),
        uidOf: ({ uid }) => uid,
        changed: (view) => changes.podChanged(view),
        deleted: (view, seen) => changes.podDeleted(view, seen),
        listed: () => listed('pods'),
        same: () => false,
      });
      this.#informers = [nodes, pods];
      nodes.start();
      pods.start();
    });
  }

  async stop(): Promise<void> {
    const informers = this.#informers;
    this.#informers = [];
    this.#giveUp?.();
    await Promise.all(informers.map((informer) => informer.stop()));
  }

  #common(what: string, path: string) {
    const { client, pageSize = 500, idleTimeoutMs = 25_000, random = Math.random, onError } = this.#options;
    return {
      what,
      path,
      config: client.config,
      pageSize,
      idleTimeoutMs,
      random,
      confirm: () => client.confirm(performance.now()),
      failed: (error: unknown, delay: number) => onError?.(what, error, delay),
      contact: () => {
        this.#contact = Date.now();
      },
    };
  }
}

function paging(limit: number, next: string | undefined): { limit: number; _continue?: string } {
  return next === undefined ? { limit } : { limit, _continue: next };
}

function page<Raw>(list: { items: Raw[]; metadata?: { resourceVersion?: string; _continue?: string } }) {
  return { items: list.items, version: list.metadata?.resourceVersion ?? '', next: list.metadata?._continue };
}
