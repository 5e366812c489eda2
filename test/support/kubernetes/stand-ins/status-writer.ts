// Writes what stand-in kubelets know of their pods to the API server: per pod in order, the newest only, until it is answered.
import { type Api, type Loose, STRATEGIC } from '../api.ts';
import { insist } from './follow.ts';

interface Work {
  pod: Loose;
  gone: boolean;
}

export class StatusWriter {
  readonly #api: Api;
  readonly #waiting = new Map<string, Work>();
  readonly #busy = new Set<string>();
  #stopped = false;

  constructor(api: Api) {
    this.#api = api;
  }

  write(pod: Loose): void {
    this.#add({ pod, gone: false });
  }

  /** The pod has stopped: its object may go. */
  remove(pod: Loose): void {
    this.#add({ pod, gone: true });
  }

  stop(): void {
    this.#stopped = true;
    this.#waiting.clear();
  }

  #add(work: Work): void {
    const { uid } = work.pod.metadata;
    if (this.#stopped || this.#waiting.get(uid)?.gone === true) return;
    this.#waiting.set(uid, work);
    if (!this.#busy.has(uid)) void this.#run(uid);
  }

  async #run(uid: string): Promise<void> {
    this.#busy.add(uid);
    for (let work = this.#waiting.get(uid); work !== undefined; work = this.#waiting.get(uid)) {
      this.#waiting.delete(uid);
      const { pod, gone } = work;
      const path = `/api/v1/namespaces/${pod.metadata.namespace}/pods/${pod.metadata.name}`;
      // The uid stands in every write: a later pod of the same name must not be hit.
      const call = gone
        ? () => this.#api.call('DELETE', path, { gracePeriodSeconds: 0, preconditions: { uid } })
        : () => this.#api.call('PATCH', `${path}/status`, { metadata: { uid }, status: pod.status }, STRATEGIC);
      const status = await insist(call, () => this.#stopped);
      if (status !== null && status >= 300 && ![404, 409].includes(status)) {
        process.stderr.write(
          `stand-in kubelet: ${gone ? 'removing' : 'writing the status of'} ${path} was answered with ${status}\n`,
        );
      }
    }
    this.#busy.delete(uid);
  }
}
