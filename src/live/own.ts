/** Topics of one user or one reservation: there while somebody watches them. */
import { findActor } from '../../persistence/actor-store.ts';
import { type KeptLine, readLines } from '../../persistence/build-log.ts';
import type { Queryable } from '../../persistence/database.ts';
import { listDisks } from '../../persistence/disks.ts';
import { listEffects } from '../../persistence/insight.ts';
import { viewOfDisk } from '../http/disk-view.ts';
import { viewOfEffect } from '../http/history.ts';
import { Topic, type TopicSettings } from './topic.ts';

const MOST_DISKS = 500;
const MOST_LINES = 2_000;

export interface BuildLogFrame {
  /** Of the image; null if nothing is built. */
  state: string | null;
  lines: { at: string; attempt: number; line: string }[];
}

type OwnTopic = Pick<Topic<unknown>, 'join' | 'stop'>;

export class OwnTopics {
  readonly #db: Queryable;
  readonly #common: Pick<TopicSettings<unknown>, 'everyMs' | 'onError'>;
  readonly #topics = new Map<string, OwnTopic>();

  constructor(db: Queryable, common: Pick<TopicSettings<unknown>, 'everyMs' | 'onError'>) {
    this.#db = db;
    this.#common = common;
  }

  stop(): void {
    for (const topic of this.#topics.values()) topic.stop();
  }

  /** Disks of a user. */
  disks(user: string): OwnTopic {
    const filter = { user, deleted: true, limit: MOST_DISKS, after: null };
    return this.#topic(`disks ${user}`, 'disks', async () => (await listDisks(this.#db, filter)).map(viewOfDisk));
  }

  /** Effects of a reservation. */
  effects(id: string): OwnTopic {
    return this.#topic(`effects ${id}`, 'effects', async () =>
      (await listEffects(this.#db, `reservation/${id}`)).map(viewOfEffect),
    );
  }

  /** What the build of a reservation's image wrote: what is there, and then what comes. */
  buildLog(id: string): OwnTopic {
    let lines: KeptLine[] = [];
    const read = async (): Promise<BuildLogFrame> => {
      const actor = await findActor(this.#db, `reservation/${id}`);
      const hash =
        (actor?.snapshot?.context as { request?: { buildHash?: string | null } } | undefined)?.request?.buildHash ?? null;
      if (hash === null) return { state: null, lines: [] };
      const more = await readLines(this.#db, hash, lines.at(-1)?.id ?? 0, MOST_LINES);
      lines = [...lines, ...more].slice(-MOST_LINES);
      const value = (await findActor(this.#db, `image/${hash}`))?.snapshot?.value;
      return {
        state: typeof value === 'string' ? value : null,
        lines: lines.map(({ at, attempt, line }) => ({ at, attempt, line })),
      };
    };
    return this.#topic(`build-log ${id}`, 'build-log', read, linesAfter);
  }

  #topic<T>(key: string, name: string, read: () => Promise<T>, patch?: TopicSettings<T>['patch']): OwnTopic {
    const known = this.#topics.get(key);
    if (known !== undefined) return known;
    const topic: OwnTopic = new Topic<T>({
      ...this.#common,
      name,
      read,
      ...(patch === undefined ? {} : { patch }),
      onIdle: () => {
        if (this.#topics.get(key) === topic) this.#topics.delete(key);
      },
    });
    this.#topics.set(key, topic);
    return topic;
  }
}

/** The lines that came since; the whole if the first ones were dropped meanwhile. */
function linesAfter(before: BuildLogFrame, after: BuildLogFrame): BuildLogFrame | null | undefined {
  const [last, newest] = [before.lines.at(-1), after.lines.at(-1)];
  const same = last?.at === newest?.at && last?.line === newest?.line && before.lines.length === after.lines.length;
  if (same && before.state === after.state) return undefined;
  if (after.lines.length >= MOST_LINES) return null;
  return { state: after.state, lines: after.lines.slice(before.lines.length) };
}
