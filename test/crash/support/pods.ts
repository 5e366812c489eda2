/** Watches the dev servers of a cluster from outside, and keeps the greatest number that one reservation had at the same moment. */
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { LABEL } from '../../../src/providers/kubernetes/objects.ts';

interface PodEvent {
  type: string;
  object: { metadata: { name: string; uid: string; labels?: Record<string, string> } };
}

export class PodWatch {
  /** Uids of the pods that exist now, by reservation. */
  readonly now = new Map<string, Set<string>>();
  /** Uids of all pods there ever were, by reservation. */
  readonly ever = new Map<string, Set<string>>();
  /** Most pods at once, by reservation. */
  readonly most = new Map<string, number>();
  readonly #abort = new AbortController();

  /** @param url of the API server. Watches from the beginning, so nothing is missed. */
  async start(url: string): Promise<void> {
    const response = await fetch(`${url}/api/v1/namespaces/gpu-dev/pods?watch=true&resourceVersion=0`, {
      signal: this.#abort.signal,
    });
    if (!response.ok || response.body === null) throw new Error(`The watch was refused: ${response.status}`);
    const lines = createInterface({ input: Readable.fromWeb(response.body as never).on('error', () => {}) });
    lines.on('line', (line) => this.#take(JSON.parse(line) as PodEvent)).on('error', () => {});
  }

  stop(): void {
    this.#abort.abort();
  }

  #take({ type, object: { metadata } }: PodEvent): void {
    const id = metadata.labels?.[LABEL.reservation];
    if (id === undefined) return;
    const now = this.now.get(id) ?? new Set();
    this.now.set(id, now);
    if (type === 'DELETED') {
      now.delete(metadata.uid);
      return;
    }
    now.add(metadata.uid);
    const ever = this.ever.get(id) ?? new Set();
    this.ever.set(id, ever.add(metadata.uid));
    this.most.set(id, Math.max(this.most.get(id) ?? 0, now.size));
  }
}
