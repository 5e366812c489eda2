/** Who uses a volume: the proof that nobody does is what a snapshot waits for. */
import type { V1Pod } from '@kubernetes/client-node';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { attempt, hasStatus } from '../kubernetes/errors.ts';
import { Gathered } from '../kubernetes/gathered.ts';
import { LABEL } from '../kubernetes/objects.ts';

const PAGE = 500;
/** Claims that a list of pods names; of more, every pod that bears the label is listed. */
const NAMED = 50;
/** Between the beginnings of two looks, in milliseconds. */
const EVERY_MS = 250;

interface Question {
  claim: string;
  /** null: the claim has none. */
  volume: string | null;
}

interface Page<T> {
  items: T[];
  metadata?: { _continue?: string };
}
type Next = { limit: number; _continue?: string };

/**
 * Answers for many volumes at once: all who wait for theirs share one list of pods and one of attachments, however many they are. Each answer
 * is from lists that began after its question.
 */
export class VolumeUsers {
  readonly #client: KubernetesClient;
  readonly #looks: Gathered<Question, number>;

  constructor(client: KubernetesClient, { everyMs = EVERY_MS }: { everyMs?: number } = {}) {
    this.#client = client;
    this.#looks = new Gathered((questions) => this.#look(questions), everyMs);
  }

  /**
   * How many pods and nodes hold the claim. Servers bear its name as a label, so they are found by it. Anybody else's pod shows by the node
   * that its volume is attached to; where volumes are not attached at all, every pod of the namespace is looked at.
   * @throws KubernetesError if the cluster does not say
   */
  of(claim: string, volume: string | null): Promise<number> {
    return this.#looks.ask({ claim, volume });
  }

  async #look(questions: readonly Question[]): Promise<PromiseSettledResult<number>[]> {
    const servers = await this.#usersOf(selectorOf(questions.map(({ claim }) => claim)));
    const attachments = once(() => this.#attachments());
    const everybody = once(() => this.#usersOf(null));
    const drivers = new Map<string, Promise<boolean>>();
    return Promise.allSettled(
      questions.map(async ({ claim, volume }) => {
        const count = servers.get(claim) ?? 0;
        // A claim without a volume was never mounted.
        if (count > 0 || volume === null) return count;
        const attached = await attachments();
        if (attached !== null) {
          const nodes = attached.get(volume) ?? 0;
          if (nodes > 0 || (await this.#isAttachable(volume, drivers))) return nodes;
        }
        return (await everybody()).get(claim) ?? 0;
      }),
    );
  }

  /** Pods that use a claim, by its name: of those that the selector finds, or of all. */
  #usersOf(selector: string | null): Promise<Map<string, number>> {
    const { core, namespace } = this.#client;
    const labelled = selector === null ? {} : { labelSelector: selector };
    return counted(
      (next) => attempt('listing pods', () => core.listNamespacedPod({ namespace, ...labelled, ...next })),
      claimsOf,
    );
  }

  /** Nodes that volumes are attached to, by the volume's name; null if we may not know. */
  async #attachments(): Promise<Map<string, number> | null> {
    const { storage } = this.#client;
    try {
      return await counted(
        (next) => attempt('listing attachments', () => storage.listVolumeAttachment(next)),
        ({ spec }) => (spec.source.persistentVolumeName === undefined ? [] : [spec.source.persistentVolumeName]),
      );
    } catch (error) {
      if (hasStatus(error, 403) || hasStatus(error, 404)) return null;
      throw error;
    }
  }

  /** Whether the driver attaches volumes to nodes, so that no attachment means no user. */
  async #isAttachable(volume: string, drivers: Map<string, Promise<boolean>>): Promise<boolean> {
    const { core, storage } = this.#client;
    try {
      const { spec } = await attempt(`reading volume ${volume}`, () => core.readPersistentVolume({ name: volume }));
      const driver = spec?.csi?.driver;
      if (driver === undefined) return false;
      const asked =
        drivers.get(driver) ??
        attempt(`reading driver ${driver}`, () => storage.readCSIDriver({ name: driver })).then(
          (found) => found.spec.attachRequired !== false,
        );
      drivers.set(driver, asked);
      return await asked;
    } catch (error) {
      if (hasStatus(error, 403) || hasStatus(error, 404)) return false;
      throw error;
    }
  }
}

/** Finds at least the pods of these claims. */
function selectorOf(claims: readonly string[]): string {
  const names = [...new Set(claims)];
  return names.length > NAMED ? LABEL.claim : `${LABEL.claim} in (${names.join(',')})`;
}

/** A pod that ended has let go of its volumes, or its node's attachment shows that it has not. */
function claimsOf({ status, spec }: V1Pod): string[] {
  if (status?.phase === 'Succeeded' || status?.phase === 'Failed') return [];
  const names = (spec?.volumes ?? []).flatMap(({ persistentVolumeClaim: claim }) =>
    claim === undefined ? [] : [claim.claimName],
  );
  return [...new Set(names)];
}

/** How often each name comes up, over all pages. */
async function counted<T>(list: (next: Next) => Promise<Page<T>>, namesOf: (item: T) => string[]): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  let next: string | undefined;
  do {
    const { items, metadata } = await list({ limit: PAGE, ...(next ? { _continue: next } : {}) });
    for (const name of items.flatMap(namesOf)) found.set(name, (found.get(name) ?? 0) + 1);
    next = metadata?._continue;
  } while (next !== undefined && next !== '');
  return found;
}

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let begun: Promise<T> | null = null;
  return () => (begun ??= work());
}
