/**
 * An actor in the words of Stately's inspector: that it exists, every event with the snapshot after it, first as history keeps them, then as
 * they come. Secrets are masked.
 */
import { foldHistory } from '../../actors/kernel/fold.ts';
import { type ActorKind, parseAddress } from '../../actors/kernel/kind.ts';
import { revive } from '../../actors/kernel/revive.ts';
import { redact } from '../../actors/secret.ts';
import type { StoredSnapshot } from '../../persistence/actor-store.ts';
import type { Queryable } from '../../persistence/database.ts';
import { type HistoryEntry, latestCheckpoint, readHistory } from '../../persistence/history.ts';

/** What the inspector understands; everything else it ignores. */
export interface InspectionEvent {
  type: '@xstate.actor' | '@xstate.event' | '@xstate.snapshot';
  sessionId: string;
  rootId: string;
  name?: string;
  /** Of an actor: its machine as JSON, in a text. */
  definition?: string;
  event?: Record<string, unknown>;
  snapshot?: Record<string, unknown>;
  /** Milliseconds since the epoch, as a text. */
  createdAt: string;
  id: null;
  _version: string;
}

/** With the number of the step that is told with it, by which a connection goes on where it was. */
export interface Told {
  seq: number | null;
  event: InspectionEvent;
}

/** Of the inspector's protocol. */
const VERSION = '0.7.2';
const PAGE = 500;

/** Follows one actor; ask again with {@link read} for what has come since. */
export class Inspection {
  readonly #kind: ActorKind;
  readonly #actor: string;
  #known: { seq: number; snapshot: StoredSnapshot } | null = null;
  #seq = 0;
  #begun = false;

  constructor(kinds: ReadonlyMap<string, ActorKind>, actor: string) {
    this.#kind = kinds.get(parseAddress(actor).kind)!;
    this.#actor = actor;
  }

  /**
   * What the inspector has not been told yet, a page at most; empty if there is nothing new.
   * @param after number of the last step that it has been told of before: those up to it are taken, and not told again
   * @throws what a fold throws
   */
  async read(db: Queryable, after = 0): Promise<Told[]> {
    for (;;) {
      const told: Told[] = this.#begun ? [] : [{ seq: null, event: await this.#begin(db) }];
      const entries = await readHistory(db, this.#actor, this.#seq, PAGE);
      for (const entry of entries) {
        this.#seq = entry.seq;
        this.#take(entry);
        const at = String(Date.parse(entry.event.at));
        const event = redact(entry.event) as Record<string, unknown>;
        told.push({ seq: null, event: { ...this.#common(at), type: '@xstate.event', event } });
        told.push({
          seq: entry.seq,
          event: { ...this.#common(at), type: '@xstate.snapshot', event, snapshot: this.#snapshot() },
        });
      }
      if (this.#seq > after || entries.length === 0) {
        const known = told.findIndex(({ seq }) => seq === after);
        return after > 0 ? told.slice(known + 1) : told;
      }
    }
  }

  /** True once its machine is done: nothing more will come. */
  get isOver(): boolean {
    return this.#known?.snapshot.status === 'done';
  }

  async #begin(db: Queryable): Promise<InspectionEvent> {
    this.#begun = true;
    const [first] = await readHistory(db, this.#actor, 0, 1);
    const checkpoint = first?.seq === 1 ? null : await latestCheckpoint(db, this.#actor);
    if (checkpoint !== null && checkpoint.machineVersion === this.#kind.version) {
      this.#known = { seq: checkpoint.seq, snapshot: checkpoint.snapshot };
      this.#seq = checkpoint.seq;
    }
    const at = String(first === undefined ? Date.now() : Date.parse(first.event.at));
    const definition = JSON.stringify(this.#kind.machine.config);
    return { ...this.#common(at), type: '@xstate.actor', name: this.#actor, definition, snapshot: this.#snapshot() };
  }

  #take(entry: HistoryEntry): void {
    if (entry.machineVersion !== this.#kind.version || (this.#known === null && entry.seq !== 1)) {
      // What cannot be folded is shown by its top-level state.
      this.#known = { seq: entry.seq, snapshot: { ...EMPTY, value: entry.to ?? '' } };
      return;
    }
    const next = foldHistory(this.#kind, this.#known, [entry]);
    if (next.stored !== null) this.#known = { seq: entry.seq, snapshot: next.stored };
  }

  #snapshot(): Record<string, unknown> {
    const { status, value, context, historyValue } = this.#known?.snapshot ?? EMPTY;
    // What a live actor would tell besides: it has no children here, and its tags follow from where it is.
    return { status, value, context: redact(context), output: null, error: null, historyValue, children: {}, tags: this.#tags() };
  }

  #tags(): string[] {
    try {
      return this.#known === null ? [] : [...revive(this.#kind, this.#known.snapshot).tags];
    } catch {
      return [];
    }
  }

  #common(createdAt: string) {
    return { sessionId: this.#actor, rootId: this.#actor, createdAt, id: null, _version: VERSION };
  }
}

const EMPTY: StoredSnapshot = {
  status: 'active',
  value: '',
  context: {},
  historyValue: {},
  output: null,
  error: null,
} as StoredSnapshot;
