/** What every stream of events does: it takes what it is given in order, catches up where it must, and knows who in it waits in a line. */
import type { ReservationView } from './reservation-view.ts';
import { bodyOf, type EventStream } from './event-stream.ts';
import type { ReadyStep } from './stream-events.ts';

/** Who listens, and by what right. */
export interface Listening {
  user: string;
  admin: boolean;
  keyId: number;
}

/** What a stream is given of a reading: its own steps, or null if it must read them itself. */
export interface Piece {
  before: string;
  after: string;
  steps: readonly ReadyStep[] | null;
}

/** Steps that may wait for a client that is slow or catches up; and reservations whose place in a line is told. */
const WAITING_STEPS = 10_000;
const PLACES = 50;

export interface Place {
  position: number | null;
  estimated_start: string | null;
  waits_because: string | null;
}

/** Where it is kept who listens to those who wait in the line of a type. */
export interface Lines {
  joined: (session: StreamSession, gpuType: string, id: string) => void;
  left: (session: StreamSession, gpuType: string, id: string) => void;
}

export abstract class StreamSession {
  readonly stream: EventStream;
  readonly by: Listening;
  readonly #lines: Lines;
  /** Reservations that wait for capacity, with their type and the place that was told last. */
  readonly waiting = new Map<string, { gpuType: string; told: Place }>();
  readonly #queue: Piece[] = [];
  #queued = 0;
  #busy = true;

  constructor(stream: EventStream, by: Listening, lines: Lines) {
    this.stream = stream;
    this.by = by;
    this.#lines = lines;
  }

  /** Its id for a client that has everything up to this position; null if ids of this stream say nothing of positions. */
  abstract idAt(position: string): string | null;
  protected abstract give(piece: Piece): Promise<void>;

  /** True if all that it was given has been sent. */
  get isIdle(): boolean {
    return !this.#busy;
  }

  /** Send what the client needs to know first; what is given meanwhile follows. */
  open(first: () => Promise<void>): void {
    void this.#work(first);
  }

  take(piece: Piece): void {
    this.#queued += piece.steps?.length ?? 1;
    if (this.#queued > WAITING_STEPS) return void this.stream.destroy();
    this.#queue.push(piece);
    if (!this.#busy) void this.#work(null);
  }

  /** Tell of a place in the line, if it differs from what was told. An estimate that moves by less than a minute is not news. */
  tellPlace(id: string, place: Place): void {
    const known = this.waiting.get(id);
    if (known === undefined || !differs(known.told, place)) return;
    known.told = place;
    this.stream.send(null, bodyOf('position', { reservation_id: id, ...place }));
  }

  /** What the client has seen of a reservation. */
  protected saw(view: ReservationView | null): void {
    if (view === null) return;
    const waits = view.state === 'queued' && view.substate === 'capacity';
    const { position, estimated_start, waits_because } = view;
    const told = { position, estimated_start, waits_because };
    const known = this.waiting.get(view.id);
    if (waits && known !== undefined) known.told = told;
    else if (waits) this.#join(view, told);
    else if (known !== undefined) {
      this.waiting.delete(view.id);
      this.#lines.left(this, known.gpuType, view.id);
    }
  }

  #join({ id, gpu_type: gpuType }: ReservationView, told: Place): void {
    // Whoever has gone is forgotten already.
    if (this.waiting.size >= PLACES || this.stream.destroyed) return;
    this.waiting.set(id, { gpuType, told });
    this.#lines.joined(this, gpuType, id);
  }

  async #work(first: (() => Promise<void>) | null): Promise<void> {
    this.#busy = true;
    try {
      await first?.();
      for (let piece = this.#queue.shift(); piece !== undefined; piece = this.#queue.shift()) {
        this.#queued -= piece.steps?.length ?? 1;
        await this.give(piece);
      }
    } catch {
      // The client comes back by its last id, and is told then what is wrong, if something is.
      this.stream.destroy();
    }
    this.#busy = false;
  }
}

function differs(a: Place, b: Place): boolean {
  if (a.position !== b.position || a.waits_because !== b.waits_because) return true;
  if (a.estimated_start === b.estimated_start) return false;
  if (a.estimated_start === null || b.estimated_start === null) return true;
  return Math.abs(Date.parse(a.estimated_start) - Date.parse(b.estimated_start)) >= 60_000;
}
