/**
 * Whether the cluster that answers is the one that our database commands. Everything that is proven by an absence (a 404, a list that lacks
 * something) is proven only if that very cluster said so: another one, valid and empty, lacks all that runs on ours.
 */
import { type ClusterRow, meetCluster, presentCluster } from '../../persistence/cluster-identity.ts';
import type { Queryable } from '../../persistence/database.ts';

/** What a cluster says of itself. */
export interface ClusterFacts {
  namespace: string;
  /** Null: there is no such namespace. */
  namespaceUid: string | null;
  /** Of kube-system; null where it may not be read. */
  systemUid: string | null;
  server: string;
}

export interface GuardSettings {
  db: Queryable;
  /** Ask the cluster who it is; throws if it does not say. */
  read: () => Promise<ClusterFacts>;
  /** After so many milliseconds what is known is asked anew before it is relied on. Default 60,000. */
  maxAgeMs?: number;
  /** Told when the cluster turns out to be another one, and when it is ours again (null). */
  onDoubt?: (doubt: string | null) => void;
}

/** The cluster that answers is not ours, or does not say which one it is: what it answers counts for nothing. */
export class ClusterDoubt extends Error {
  override readonly name = 'ClusterDoubt';
  /** Takes the place of the code of a broken connection. */
  readonly code = 'OtherCluster';
}

interface Reading {
  began: number;
  done: Promise<ClusterDoubt | null>;
}

export class ClusterGuard {
  readonly #settings: GuardSettings;
  readonly #maxAge: number;
  #reading: Reading | null = null;
  /** When the last reading began that found ours; our row as it was then. */
  #confirmedAt = Number.NEGATIVE_INFINITY;
  #brokenAt = Number.NEGATIVE_INFINITY;
  #known: { row: ClusterRow; at: number } | null = null;
  #doubt: ClusterDoubt | null = null;

  constructor(settings: GuardSettings) {
    this.#settings = settings;
    this.#maxAge = settings.maxAgeMs ?? 60_000;
  }

  /** Why the cluster is not believed, in words for the operator; null if it is, or was not met yet. */
  get doubt(): string | null {
    return this.#doubt?.message ?? null;
  }

  /**
   * Resolves if the cluster is ours. Many who ask at once share one question to it.
   * @param notBefore the moment (of performance.now) before which an answer is too old; left out: one that is not older than the usual age
   * @throws ClusterDoubt if it is another one, or has no namespace for dev servers; what `read` or the database throws if that is not known
   */
  async confirm(notBefore = performance.now() - this.#maxAge): Promise<void> {
    while (this.#confirmedAt < notBefore) {
      const { began, done } = this.#reading ?? this.#begin();
      const doubt = await done;
      if (began < notBefore) continue;
      if (doubt !== null) throw doubt;
      return;
    }
  }

  /** The way to the cluster broke: it is asked anew who it is before anything else. */
  forget(): void {
    this.#confirmedAt = Number.NEGATIVE_INFINITY;
    this.#brokenAt = performance.now();
  }

  #begin(): Reading {
    const began = performance.now();
    const done = this.#ask(began).finally(() => {
      this.#reading = null;
    });
    // Whoever asked is told; a question that nobody waits for any more is not an unhandled rejection.
    done.catch(() => {});
    this.#reading = { began, done };
    return this.#reading;
  }

  async #ask(began: number): Promise<ClusterDoubt | null> {
    const facts = await this.#settings.read();
    const words = await this.#compare(facts, began);
    const before = this.#doubt;
    this.#doubt = words === null ? null : new ClusterDoubt(words);
    this.#confirmedAt = words === null && began > this.#brokenAt ? began : Number.NEGATIVE_INFINITY;
    if (before?.message !== this.#doubt?.message) this.#settings.onDoubt?.(words);
    return this.#doubt;
  }

  async #compare(facts: ClusterFacts, now: number): Promise<string | null> {
    const { db } = this.#settings;
    const { namespace, namespaceUid, systemUid, server } = facts;
    if (namespaceUid === null)
      return `There is no namespace ${namespace} at ${server}: nothing is concluded from what it does not have. Make it anew, or correct GPU_DEV_NAMESPACE and KUBECONFIG.`;
    const fresh = this.#known !== null && now - this.#known.at < this.#maxAge && isSame(this.#known.row, facts);
    if (fresh) return null;
    // Another may have been accepted in the meantime.
    const row = (await presentCluster(db)) ?? (await meetCluster(db, { namespace, namespaceUid, systemUid, server }));
    if (isSame(row, facts)) {
      const filled = row.namespace === null || (row.systemUid === null && systemUid !== null);
      const full = filled ? await meetCluster(db, { namespace, namespaceUid, systemUid, server }) : row;
      this.#known = { row: full, at: now };
      return null;
    }
    this.#known = null;
    return wordsOf(row, { ...facts, namespaceUid });
  }
}

function isSame(row: ClusterRow, { namespaceUid, systemUid }: ClusterFacts): boolean {
  return row.namespaceUid === namespaceUid && (row.systemUid === null || systemUid === null || row.systemUid === systemUid);
}

function wordsOf(row: ClusterRow, met: ClusterFacts & { namespaceUid: string }): string {
  const name = (uid: string | null) => (uid === null ? '' : `, cluster ${uid}`);
  const ours = `the namespace ${row.namespace ?? 'of uid'} ${row.namespaceUid}${name(row.systemUid)}${row.server === null ? '' : ` at ${row.server}`}`;
  const theirs = `the namespace ${met.namespace} ${met.namespaceUid}${name(met.systemUid)} at ${met.server}`;
  const same = row.systemUid !== null && row.systemUid === met.systemUid && row.namespace === met.namespace;
  return [
    same ? 'The namespace of the dev servers was deleted and made anew' : 'This database belongs to another cluster or namespace',
    `: it commands ${ours}, and what answers is ${theirs}. Nothing is done there, and nothing is concluded from what it does not have. `,
    'Correct KUBECONFIG and GPU_DEV_NAMESPACE; or, if what runs is there and the other is gone for good: ',
    `gpu-dev admin accept-cluster --namespace-uid ${met.namespaceUid} --reason …`,
  ].join('');
}
