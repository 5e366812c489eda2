/** When pods appear and disappear, seen through a watch of one's own, on this machine's clock. */
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { LABEL } from '../../src/providers/kubernetes/objects.ts';

interface PodEvent {
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  object: { metadata: { uid: string; labels?: Record<string, string> } };
}

export interface PodSeen {
  reservation: string;
  /** Milliseconds of `Date.now()`, with fractions. */
  at: number;
}

export class PodTimes {
  /** First pod of each reservation, and the end of its last. */
  readonly created = new Map<string, number>();
  readonly gone = new Map<string, number>();
  /** Told of each creation and each end. */
  onCreated: (pod: PodSeen) => void = () => {};
  onGone: (pod: PodSeen) => void = () => {};
  readonly #seen = new Set<string>();
  readonly #abort = new AbortController();

  /** @param url of the API server. */
  async start(url: string): Promise<void> {
    const response = await fetch(`${url}/api/v1/namespaces/gpu-dev/pods?watch=true&resourceVersion=0`, {
      signal: this.#abort.signal,
    });
    if (!response.ok || response.body === null) throw new Error(`The watch was refused: ${response.status}`);
    const lines = createInterface({ input: Readable.fromWeb(response.body as never).on('error', () => {}) });
    lines.on('line', (line) => this.#take(line)).on('error', () => {});
  }

  stop(): void {
    this.#abort.abort();
  }

  #take(line: string): void {
    const at = performance.timeOrigin + performance.now();
    const { type, object } = JSON.parse(line) as PodEvent;
    const reservation = object.metadata.labels?.[LABEL.reservation];
    if (reservation === undefined) return;
    if (type === 'DELETED') {
      this.gone.set(reservation, at);
      this.onGone({ reservation, at });
    } else if (!this.#seen.has(object.metadata.uid)) {
      this.#seen.add(object.metadata.uid);
      if (!this.created.has(reservation)) this.created.set(reservation, at);
      this.onCreated({ reservation, at });
    }
  }
}
