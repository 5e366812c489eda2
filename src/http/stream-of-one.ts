/** The events of one reservation. Its steps are numbered without gaps, so the number is the id to come back by. */
import { endingSeq, lastSeq, readSpan } from '../../persistence/changes.ts';
import type { Queryable } from '../../persistence/database.ts';
import { bodyOf, type EventStream } from './event-stream.ts';
import type { ReservationReader } from './reader.ts';
import { isEnd, type ReadyStep, readyStep } from './stream-events.ts';
import { type Lines, type Listening, type Piece, StreamSession } from './stream-session.ts';

/** Steps read at once while catching up. */
const PAGE = 500;

export class StreamOfOne extends StreamSession {
  readonly id: string;
  readonly owner: string;
  readonly #db: Queryable;
  readonly #reader: ReservationReader;
  /** Number of the last step that was sent. */
  #sent = 0;

  constructor(
    stream: EventStream,
    by: Listening,
    of: { id: string; owner: string },
    parts: { db: Queryable; reader: ReservationReader; lines: Lines },
  ) {
    super(stream, by, parts.lines);
    this.id = of.id;
    this.owner = of.owner;
    this.#db = parts.db;
    this.#reader = parts.reader;
  }

  override idAt(): null {
    return null;
  }

  /** Begin. @param after number of the last step that the client has; null if it has none */
  begin(after: number | null): void {
    this.open(async () => {
      const last = await lastSeq(this.#db, this.id);
      if (after !== null && after <= last) this.#sent = after;
      else {
        if (after !== null) this.stream.send(null, bodyOf('reset', { reason: 'This reservation has no step of that number' }));
        await this.#showFirst(last);
      }
      await this.#catchUp();
    });
  }

  /** True if a client that has seen the step of this number has seen all there will be. */
  static async isOver(db: Queryable, id: string, after: number): Promise<boolean> {
    const ending = await endingSeq(db, id);
    return ending !== null && after >= ending && after <= (await lastSeq(db, id));
  }

  protected override async give(piece: Piece): Promise<void> {
    if (piece.steps === null) return this.#catchUp();
    for (const ready of piece.steps) await this.#send(ready);
  }

  /** The view comes after the number was read: it may be ahead of the number, never behind it. */
  async #showFirst(last: number): Promise<void> {
    const view = await this.#reader.mustView(this.id);
    const ending = view.ended_at === null ? null : await endingSeq(this.#db, this.id);
    // Of one that has ended the end itself is still told.
    this.#sent = ending === null ? last : ending - 1;
    this.saw(view);
    this.stream.send(String(this.#sent), bodyOf('snapshot', { reservations: [view], more: false }));
    if (view.ended_at !== null && ending === null) this.stream.finish();
  }

  async #catchUp(): Promise<void> {
    for (;;) {
      const steps = await readSpan(this.#db, { id: this.id, first: this.#sent + 1, last: Number.MAX_SAFE_INTEGER }, PAGE);
      const isLast = steps.length < PAGE;
      const view = steps.length > 0 && (isLast || steps.some(isEnd)) ? await this.#reader.view(this.id) : null;
      for (const [index, step] of steps.entries()) await this.#send(readyStep(step, view, isLast && index === steps.length - 1));
      if (isLast) return;
    }
  }

  async #send({ step, view, body, ends }: ReadyStep): Promise<void> {
    if (step.seq <= this.#sent) return;
    this.#sent = step.seq;
    this.saw(view);
    this.stream.send(String(step.seq), body);
    if (ends) this.stream.finish();
    else if (this.stream.isFull) await this.stream.room();
  }
}
