/**
 * All streams of this process: how many there may be, who gets which step of what is read, their signs of life, and their ends. What a step
 * costs is paid once, however many listen to it.
 */
import { setImmediate as nextTick } from 'node:timers/promises';
import type { Kernel } from '../../actors/kernel/kernel.ts';
import { lifeOf, type Step } from '../../persistence/changes.ts';
import type { Queryable } from '../../persistence/database.ts';
import { Problem } from '../errors.ts';
import { Audience, type Session } from './audience.ts';
import { EventStream } from './event-stream.ts';
import type { ReservationReader } from './reader.ts';
import { isEnd, type ReadyStep, readyStep } from './stream-events.ts';
import { StreamOfMany } from './stream-of-many.ts';
import { StreamOfOne } from './stream-of-one.ts';
import type { Listening, StreamSession } from './stream-session.ts';
import { type Reading, StepFeed } from './step-feed.ts';

/** How often streams show that they live, and places in lines and keys are looked at, in milliseconds. */
const BEAT_MS = 15_000;
const PLACES_MS = 3_000;
const RIGHTS_MS = 5_000;
/** Places that are told, and signs of life that are given, before others may have the processor. */
const AT_A_TIME = 25;

export interface StreamLimits {
  /** Streams at once in this process: of one user, whatever their keys, and in all. */
  perUser: number;
  total: number;
}
export const DEFAULT_LIMITS: StreamLimits = { perUser: 50, total: 2_000 };

export interface Rights {
  /** Of these keys, those that may be used no longer. */
  endedKeys: (keys: readonly number[]) => Promise<number[]>;
  /** Who may see these reservations beside their owners, by reservation. */
  viewersOf: (ids: readonly string[]) => Promise<ReadonlyMap<string, readonly string[]>>;
  /** Reservations of others that a user may see. */
  sharedWith: (user: string) => Promise<string[]>;
}

export interface StreamsSettings {
  db: Queryable;
  kernel: Pick<Kernel, 'watch'>;
  reader: ReservationReader;
  rights: Rights;
  limits?: StreamLimits;
  onError: (error: unknown) => void;
  /** Milliseconds between looks at places and at rights, and steps read at once; for tests. */
  every?: { places?: number; rights?: number; beat?: number };
  /** How long a client may take nothing, in milliseconds. */
  patienceMs?: number;
  atOnce?: number;
}

export class Streams {
  readonly #settings: StreamsSettings;
  readonly #feed: StepFeed;
  readonly #audience = new Audience();
  readonly #timers: NodeJS.Timeout[] = [];
  #opening = 0;
  /** Streams of each user, those included that are being opened. */
  readonly #ofUser = new Map<string, number>();
  /** Where in the line of each type the next telling of those who stand far back begins. */
  readonly #toldUpTo = new Map<string, number>();
  #life: Promise<string> | null = null;

  constructor(settings: StreamsSettings) {
    this.#settings = settings;
    this.#feed = new StepFeed({
      ...settings,
      onReading: (reading) => this.#prepare(reading),
      onLost: () => this.close(),
    });
    const { every = {} } = settings;
    this.#repeat(every.beat ?? BEAT_MS, () => this.#beat());
    this.#repeat(every.places ?? PLACES_MS, () => this.#tellPlaces());
    this.#repeat(every.rights ?? RIGHTS_MS, () => this.#checkRights());
  }

  get count(): number {
    return this.#audience.size;
  }

  /** A stream of one reservation, from behind the step of this number, or from now on. */
  async ofOne(by: Listening, of: { id: string; owner: string }, after: number | null): Promise<EventStream> {
    const { db, reader, patienceMs } = this.#settings;
    const session = new StreamOfOne(new EventStream(patienceMs), by, of, { db, reader, lines: this.#audience });
    return this.#admit(session, () => session.begin(after));
  }

  /** A stream of all reservations of somebody, or of everybody (null). @param lastId id of the last event that the client has */
  async ofMany(by: Listening, owner: string | null, lastId: string | null): Promise<EventStream> {
    const { db, reader, rights } = this.#settings;
    this.#life ??= lifeOf(db);
    const life = await this.#life.catch((error: unknown) => {
      this.#life = null;
      throw error;
    });
    const from = lastId === null ? null : await StreamOfMany.positionOf(lastId, { db, life });
    const session = new StreamOfMany(new EventStream(this.#settings.patienceMs), by, owner, {
      db,
      reader,
      life,
      sharedWith: rights.sharedWith,
      lines: this.#audience,
    });
    return this.#admit(session, (now) => session.begin(from, now, lastId !== null && from === null));
  }

  /** End all streams; their clients come back, to this process or another. */
  close(): void {
    for (const { stream } of this.#audience.all()) stream.finish();
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.close();
    await this.#feed.stop();
  }

  async #admit(session: Session, begin: (now: string) => void): Promise<EventStream> {
    const { limits = DEFAULT_LIMITS } = this.#settings;
    const { user } = session.by;
    const ofUser = this.#ofUser.get(user) ?? 0;
    if (ofUser >= limits.perUser) {
      throw new Problem('GPU_STREAMS_TOO_MANY', `${user} has ${ofUser} streams open here, and may have no more`, {
        details: { maximum: limits.perUser },
      });
    }
    if (this.#audience.size + this.#opening >= limits.total)
      throw new Problem('GPU_STREAMS_TOO_MANY', 'No more streams can be opened here at present');
    this.#opening++;
    this.#count(user, 1);
    let joined = false;
    try {
      await this.#feed.join((now) => {
        joined = true;
        this.#audience.add(session);
        session.stream.once('close', () => {
          this.#audience.remove(session);
          this.#count(user, -1);
          this.#feed.leave();
        });
        // A client that goes, or is too slow, is no error of ours.
        session.stream.on('error', () => {});
        begin(now);
      });
    } finally {
      this.#opening--;
      if (!joined) this.#count(user, -1);
    }
    return session.stream;
  }

  #count(user: string, change: 1 | -1): void {
    const left = (this.#ofUser.get(user) ?? 0) + change;
    if (left > 0) this.#ofUser.set(user, left);
    else this.#ofUser.delete(user);
  }

  /** Make events of steps, as far as anybody listens to them. */
  async #prepare({ before, after, steps }: Reading): Promise<() => void> {
    if (steps === null) {
      return () => {
        for (const session of this.#audience.all()) session.take({ before, after, steps: null });
      };
    }
    const viewers = await this.#settings.rights.viewersOf([...new Set(steps.map(({ id }) => id))]);
    const heard = new Set([...this.#audience.recipients(steps, viewers).values()].flat());
    const latest = new Map(steps.map((step) => [step.id, step]));
    const told = steps.filter((step) => heard.has(step) && (latest.get(step.id) === step || isEnd(step)));
    const views = await this.#settings.reader.views([...new Set(told.map(({ id }) => id))]);
    const written = new Map<Step, ReadyStep>();
    const ready = (step: Step) => {
      const known = written.get(step) ?? readyStep(step, views.get(step.id) ?? null, latest.get(step.id) === step);
      written.set(step, known);
      return known;
    };
    // Those who came while this was prepared get it too.
    return () => {
      for (const [session, own] of this.#audience.recipients(steps, viewers))
        session.take({ before, after, steps: own.map(ready) });
    };
  }

  async #beat(): Promise<void> {
    await inPortions(this.#audience.all(), (session) => {
      const { position } = this.#feed;
      session.stream.beat(session.isIdle && position !== null ? session.idAt(position) : null);
    });
  }

  /** One reading of each type's line serves all who wait in it. Those who stand far back are told in turns: their places tell little. */
  async #tellPlaces(): Promise<void> {
    // A line whose reading takes long, or fails, holds up no other.
    const told = await Promise.allSettled([...this.#audience.lines].map(([gpuType, line]) => this.#tellLine(gpuType, line)));
    for (const each of told) if (each.status === 'rejected') this.#settings.onError(each.reason);
  }

  async #tellLine(gpuType: string, line: ReadonlyMap<string, ReadonlySet<StreamSession>>): Promise<void> {
    const { places, next } = await this.#settings.reader.placesOf(gpuType, [...line.keys()], this.#toldUpTo.get(gpuType) ?? 0);
    this.#toldUpTo.set(gpuType, next);
    // Who is not in the answer is told by the next step what it does instead.
    await inPortions(places, ([id, { position, estimatedStart: estimated_start, reason: waits_because }]) => {
      for (const session of line.get(id) ?? []) session.tellPlace(id, { position, estimated_start, waits_because });
    });
  }

  /** Streams end with the key they were opened with, and with the right to see what they show. */
  async #checkRights(): Promise<void> {
    const { rights } = this.#settings;
    const sessions = this.#audience.all();
    const ended = new Set(await rights.endedKeys([...new Set(sessions.map(({ by }) => by.keyId))]));
    const guests = sessions.filter(
      (each) => each instanceof StreamOfOne && !each.by.admin && each.by.user !== each.owner,
    ) as StreamOfOne[];
    const viewers = guests.length === 0 ? new Map<string, string[]>() : await rights.viewersOf(guests.map(({ id }) => id));
    for (const { by, stream } of sessions) if (ended.has(by.keyId)) stream.finish();
    for (const { by, id, stream } of guests) if (viewers.get(id)?.includes(by.user) !== true) stream.finish();
  }

  #repeat(milliseconds: number, work: () => Promise<void>): void {
    let busy = false;
    const timer = setInterval(() => {
      if (busy || this.#audience.size === 0) return;
      busy = true;
      work()
        .catch(this.#settings.onError)
        .finally(() => {
          busy = false;
        });
    }, milliseconds);
    timer.unref();
    this.#timers.push(timer);
  }
}

/** Do something for each, {@link AT_A_TIME} before others may have the processor. */
async function inPortions<T>(all: Iterable<T>, work: (each: T) => void): Promise<void> {
  let done = 0;
  for (const each of all) {
    work(each);
    if (++done % AT_A_TIME === 0) await nextTick();
  }
}
