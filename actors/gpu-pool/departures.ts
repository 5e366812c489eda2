/** How dev servers and nodes went that the cluster no longer has: seen by the watch, or merely lacking in a list. In memory, of this watch only. */
import type { PodView } from './ports.ts';

export class Departures {
  readonly #pods = new Set<string>();
  readonly #nodes = new Set<string>();
  /** Where dev servers were that are no longer there. */
  readonly #lastNodes = new Map<string, string>();

  podGone({ uid, node, server }: PodView, seen: boolean): void {
    if (server === null) return;
    if (seen) this.#pods.add(uid);
    if (node !== null) this.#lastNodes.set(uid, node);
  }

  nodeGone(name: string, seen: boolean): void {
    if (seen) this.#nodes.add(name);
  }

  /** A node of this name is there. */
  nodeThere(name: string): void {
    this.#nodes.delete(name);
  }

  isNodeSeen(name: string): boolean {
    return this.#nodes.has(name);
  }

  /** Whether the end of this dev server was seen, or that of its node: it is told by the way of all changes. */
  isSeen(uid: string, node: string | null = this.#lastNodes.get(uid) ?? null): boolean {
    return this.#pods.has(uid) || (node !== null && this.#nodes.has(node));
  }

  /** Nobody believes in any dev servers but these. */
  forgetAllBut(believed: ReadonlySet<string>): void {
    for (const uid of this.#pods) if (!believed.has(uid)) this.#pods.delete(uid);
    for (const uid of this.#lastNodes.keys()) if (!believed.has(uid)) this.#lastNodes.delete(uid);
  }
}
