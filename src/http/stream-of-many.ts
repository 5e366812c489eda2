/**
 * The events of all reservations of somebody, or of everybody. An id is `<reservation>:<seq>@<position>`: before the @ which step it is, the
 * same whenever it is sent; behind it where to go on.
 */
import { isBehind, isPosition, readSpan, shortened, type Span, spansBetween } from '../../persistence/changes.ts';
import type { Queryable } from '../../persistence/database.ts';
import { bodyOf, type EventStream } from './event-stream.ts';
import type { ReservationReader } from './reader.ts';
import { LIVE, type ReservationView } from './reservation-view.ts';
import { isEnd, type ReadyStep, readyStep } from './stream-events.ts';
import { type Lines, type Listening, type Piece, StreamSession } from './stream-session.ts';

/** Steps, and reservations of a snapshot, that are read at once. */
const PAGE = 500;
const SNAPSHOT_PAGE = 100;

export interface ManyParts {
  db: Queryable;
  reader: ReservationReader;
  /** Name of the database, without which positions mean nothing. */
  life: string;
  /** Reservations of others that this user may see. */
  sharedWith: (user: string) => Promise<string[]>;
  lines: Lines;
}

export class StreamOfMany extends StreamSession {
  /** Whose reservations; null for everybody's. */
  readonly owner: string | null;
  readonly #parts: ManyParts;

  constructor(stream: EventStream, by: Listening, owner: string | null, parts: ManyParts) {
    super(stream, by, parts.lines);
    this.owner = owner;
    this.#parts = parts;
  }

  override idAt(position: string): string {
    return `-@${this.#parts.life}.${shortened(position)}`;
  }

  /** The position in an id; null if it is none that this database has given. */
  static async positionOf(id: string, { db, life }: Pick<ManyParts, 'db' | 'life'>): Promise<string | null> {
    const [, own, position] = /@([0-9a-f]{8})\.([\d:,]{3,2000})$/.exec(id) ?? [];
    if (own !== life || position === undefined || !isPosition(position)) return null;
    return (await isBehind(db, position)) ? position : null;
  }

  /** Begin. @param from where the client goes on, null at the beginning @param now from where on it is given what happens */
  begin(from: string | null, now: string, reset: boolean): void {
    this.open(async () => {
      if (reset) this.stream.send(null, bodyOf('reset', { reason: 'That place is not known here' }));
      if (from === null) await this.#showFirst(now);
      else await this.#catchUp(from, now);
    });
  }

  protected override async give({ before, after, steps }: Piece): Promise<void> {
    if (steps === null) return this.#catchUp(before, after);
    for (const [index, ready] of steps.entries()) await this.#send(ready, index === steps.length - 1 ? after : before);
  }

  async #showFirst(now: string): Promise<void> {
    const { reader, sharedWith } = this.#parts;
    const filter = { statuses: LIVE, user: this.owner, gpuType: null, sharedWith: null, member: null, limit: SNAPSHOT_PAGE };
    let { views, next } = await reader.list({ ...filter, after: null });
    while (next !== null) {
      this.#show(views, null);
      await this.stream.room();
      ({ views, next } = await reader.list({ ...filter, after: next }));
    }
    const shared = this.owner === null ? [] : [...(await reader.views(await sharedWith(this.owner))).values()];
    this.#show([...views, ...shared.filter(({ state }) => LIVE.includes(state))], now);
  }

  /** @param now null if more follow: only the last can be gone on from */
  #show(views: ReservationView[], now: string | null): void {
    if (this.owner !== null) for (const view of views) this.saw(view);
    const body = bodyOf('snapshot', { reservations: views, more: now === null });
    this.stream.send(now === null ? null : `snapshot${this.idAt(now).slice(1)}`, body);
  }

  async #catchUp(before: string, after: string): Promise<void> {
    const shared = this.owner === null ? [] : await this.#parts.sharedWith(this.owner);
    const spans = await spansBetween(this.#parts.db, before, after, this.owner, shared);
    for (const span of spans) await this.#giveSpan(span, before);
    // From here on it goes on behind all of them.
    this.stream.beat(this.idAt(after));
  }

  async #giveSpan(span: Span, position: string): Promise<void> {
    for (let first = span.first; first <= span.last; ) {
      const steps = await readSpan(this.#parts.db, { ...span, first }, PAGE);
      if (steps.length === 0) return;
      first = steps.at(-1)!.seq + 1;
      const isLast = first > span.last;
      const view = isLast || steps.some(isEnd) ? await this.#parts.reader.view(span.id) : null;
      for (const [index, step] of steps.entries()) {
        await this.#send(readyStep(step, view, isLast && index === steps.length - 1), position);
      }
    }
  }

  async #send({ step, view, body }: ReadyStep, position: string): Promise<void> {
    if (this.owner !== null) this.saw(view);
    this.stream.send(`${step.id}:${step.seq}${this.idAt(position).slice(1)}`, body);
    if (this.stream.isFull) await this.stream.room();
  }
}
