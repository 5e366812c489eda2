// What stands in for parts of a cluster follows the API server by the same lists and watches as everybody.
import { KubeConfig } from '@kubernetes/client-node';
import { Informer } from '../../../../src/providers/kubernetes/informers.ts';
import type { Api, Loose } from '../api.ts';

export interface Receiver {
  changed: (object: Loose) => void;
  deleted?: (object: Loose) => void;
}

export interface Followed {
  /** Resolves when everything that was there has been delivered. */
  listed: Promise<void>;
  stop(): Promise<void>;
}

export function configOf({ server, caFile, token }: Api['access']): KubeConfig {
  const config = new KubeConfig();
  config.loadFromClusterAndUser({ name: 'test', server, caFile, skipTLSVerify: false }, { name: 'test', token });
  return config;
}

/** Deliver every object below a path of the API, and every change, until stopped. */
export function follow(api: Api, config: KubeConfig, path: string, { changed, deleted }: Receiver): Followed {
  let listed: (() => void) | null = null;
  const first = new Promise<void>((resolve) => {
    listed = resolve;
  });
  const informer = new Informer<Loose, Loose>({
    what: path,
    config,
    path,
    list: async ({ limit, next }) => {
      const body = await api.ask('GET', `${path}?limit=${limit}${next ? `&continue=${encodeURIComponent(next)}` : ''}`);
      return { items: body.items, version: body.metadata.resourceVersion, next: body.metadata.continue };
    },
    trim: (object) => object,
    uidOf: (object) => object.metadata.uid,
    same: () => false,
    changed,
    deleted: deleted ?? (() => undefined),
    listed: () => listed?.(),
    confirm: async () => undefined,
    failed: () => undefined,
    contact: () => undefined,
    pageSize: 500,
    idleTimeoutMs: 120_000,
    random: Math.random,
  });
  informer.start();
  return { listed: first, stop: () => informer.stop() };
}

/** Calls that are repeated until they were answered: the API server may be away for a while. */
export async function insist(call: () => Promise<{ status: number }>, stopped: () => boolean): Promise<number | null> {
  for (let wait = 50; !stopped(); wait = Math.min(wait * 2, 1_000)) {
    try {
      const { status } = await call();
      if (status < 500 && status !== 429) return status;
    } catch {
      // No answer: again.
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
  return null;
}
