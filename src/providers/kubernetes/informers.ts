/** A list that is kept current: paged list, then a watch from there; after any trouble again, and nothing is lost in between. */
import { type KubeConfig, Watch } from '@kubernetes/client-node';
import { KubernetesError } from './errors.ts';

export interface Page<Raw> {
  items: Raw[];
  version: string;
  /** Token of the next page; absent on the last. */
  next: string | undefined;
}

export interface InformerOptions<Raw, View> {
  /** What is listed, for errors. */
  what: string;
  config: KubeConfig;
  /** Path of the watch. */
  path: string;
  list: (page: { limit: number; next: string | undefined }) => Promise<Page<Raw>>;
  /** What is kept of an object. The object itself is let go: whole objects of a large cluster take a gigabyte. */
  trim: (raw: Raw) => View;
  uidOf: (view: View) => string;
  /** Whether a watched change changes nothing that matters. Lists are always delivered whole. */
  same: (before: View, after: View) => boolean;
  changed: (view: View) => void;
  /** The last we saw of an object that is no more: its deletion was seen, or else a complete list lacks it. */
  deleted: (view: View, seen: boolean) => void;
  /** Resolves if the cluster that answers is the one that is meant: what another one has, or lacks, is not told. */
  confirm: () => Promise<void>;
  /** A complete list was delivered, with the deletions that it proves. */
  listed: () => void;
  /** Something went wrong; the informer goes on after `delay` milliseconds. */
  failed: (error: unknown, delay: number) => void;
  contact: () => void;
  pageSize: number;
  /** A watch that is silent for so many milliseconds is taken for dead. */
  idleTimeoutMs: number;
  random: () => number;
}

const FIRST_DELAY = 200;
const LAST_DELAY = 10_000;
/** Failures in a row after which the place in the history is given up. */
const RELIST_AFTER = 5;

/** Milliseconds before try number `failures`: doubling from 0.2 s to 10 s, half of it random so that replicas do not return as one. */
export function backoff(failures: number, random: () => number): number {
  const full = Math.min(LAST_DELAY, FIRST_DELAY * 2 ** Math.min(failures, 10));
  return Math.round(Math.max(FIRST_DELAY, full * (0.5 + random() / 2)));
}

/** The resourceVersion we stood at is too old: only a new list helps. */
class Expired extends Error {}

interface RawEvent<Raw> {
  type: string;
  object: Raw & { metadata?: { resourceVersion?: string }; code?: number; message?: string };
}

export class Informer<Raw, View> {
  readonly #options: InformerOptions<Raw, View>;
  readonly #stop = new AbortController();
  readonly #known = new Map<string, View>();
  #version: string | null = null;
  #running: Promise<void> | null = null;

  constructor(options: InformerOptions<Raw, View>) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  get #stopped(): boolean {
    return this.#stop.signal.aborted;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#stopped) {
      const begun = Date.now();
      try {
        if (this.#version === null) await this.#relist();
        else await this.#options.confirm();
        if (this.#stopped) return;
        const quiet = await this.#watch();
        // A watch that ends at once, again and again, is a failure too: without a pause it would turn hot.
        if (quiet && Date.now() - begun < 1000) throw new Error(`the watch of ${this.#options.what} ended at once`);
        failures = 0;
      } catch (error) {
        if (this.#stopped) return;
        // A version that the server will never reach (it was restored from a backup) fails for ever; a new list does not.
        if (error instanceof Expired || failures >= RELIST_AFTER) this.#version = null;
        const delay = error instanceof Expired && failures === 0 ? 0 : backoff(failures, this.#options.random);
        failures += 1;
        this.#options.failed(error, delay);
        await this.#pause(delay);
      }
    }
  }

  #pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#stop.signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = setTimeout(end, milliseconds);
      this.#stop.signal.addEventListener('abort', end);
    });
  }

  /**
   * Without a resourceVersion, so that the list is a current one: a list from the API server's cache may be older than what
   * we have seen, and would prove deletions that never were.
   */
  async #relist(): Promise<void> {
    const { list, pageSize, contact, listed, confirm } = this.#options;
    const seen = new Set<string>();
    let next: string | undefined;
    let version = '';
    do {
      const page = await list({ limit: pageSize, next });
      await confirm();
      if (this.#stopped) return;
      contact();
      for (const raw of page.items) seen.add(this.#keep(raw, true));
      // All pages show the moment of the first one, so its version is where the watch begins.
      if (version === '') version = page.version;
      next = page.next;
    } while (next !== undefined && next !== '');
    for (const [uid, view] of this.#known) {
      if (seen.has(uid)) continue;
      this.#options.deleted(view, false);
      this.#known.delete(uid);
    }
    this.#version = version;
    listed();
  }

  #keep(raw: Raw, always: boolean): string {
    const { trim, uidOf, same, changed } = this.#options;
    const view = trim(raw);
    const uid = uidOf(view);
    const before = this.#known.get(uid);
    this.#known.set(uid, view);
    if (always || before === undefined || !same(before, view)) changed(view);
    return uid;
  }

  /** One watch until it ends. @returns whether nothing came by it @throws Expired, KubernetesError or what a receiver threw */
  #watch(): Promise<boolean> {
    const { config, path, idleTimeoutMs, contact, random, what } = this.#options;
    const watch = new Watch(config);
    // client-node's own limit: to connect, then between two pieces of data. It finds connections that a network swallowed.
    (watch as unknown as { requestTimeoutMs: number }).requestTimeoutMs = idleTimeoutMs;
    return new Promise((resolve, reject) => {
      let quiet = true;
      let over = false;
      let controller: AbortController | null = null;
      const end = (settle: () => void): void => {
        if (over) return;
        over = true;
        this.#stop.signal.removeEventListener('abort', stop);
        controller?.abort();
        settle();
      };
      const stop = (): void => end(() => resolve(quiet));
      const ended = (error: unknown): void =>
        end(() => {
          if (isIdle(error)) resolve(false);
          else if (error === null || error === undefined) resolve(quiet);
          else if ((error as { statusCode?: number }).statusCode === 410) reject(new Expired());
          else reject(error instanceof Error ? error : new Error(`the watch of ${what} failed`));
        });
      const received = (type: string, object: RawEvent<Raw>['object']): void => {
        if (over) return;
        quiet = false;
        contact();
        // client-node drops what a receiver throws. Then the change would be lost, so we list again instead.
        try {
          this.#apply({ type, object });
        } catch (error) {
          if (!(error instanceof KubernetesError)) this.#version = null;
          end(() => reject(error));
        }
      };
      this.#stop.signal.addEventListener('abort', stop);
      const query = {
        allowWatchBookmarks: true,
        resourceVersion: this.#version ?? undefined,
        timeoutSeconds: 240 + Math.round(random() * 60),
      };
      watch.watch(path, query, received, ended).then((given) => {
        controller = given;
        if (over) given.abort();
        else contact();
      }, ended);
    });
  }

  #apply({ type, object }: RawEvent<Raw>): void {
    const { trim, uidOf, deleted, what } = this.#options;
    if (type === 'ERROR') {
      if (object.code === 410) throw new Expired();
      throw new KubernetesError(`watching ${what}`, object.code ?? null, 'WatchError', object.message ?? '');
    }
    if (type === 'ADDED' || type === 'MODIFIED') this.#keep(object, false);
    if (type === 'DELETED') {
      const view = trim(object);
      deleted(view, true);
      this.#known.delete(uidOf(view));
    }
    // Only now: had a receiver thrown, the change must come again.
    this.#version = object.metadata?.resourceVersion ?? this.#version;
  }
}

/** A silent watch ends without harm: we go on from where we stood. */
function isIdle(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError';
}
