/** Reading reservations for answers: by id or the beginning of one, with place and estimate. */
import { findReservation } from '../../actors/intake/lookup.ts';
import type { Kernel } from '../../actors/kernel/kernel.ts';
import type { Database } from '../../persistence/database.ts';
import {
  findReservationRow,
  listReservationRows,
  type ReservationFilter,
  type ReservationRow,
} from '../../persistence/reservations.ts';
import { Problem } from '../errors.ts';
import type { QueueViews } from './queue-views.ts';
import { type ReservationView, viewOf } from './reservation-view.ts';

export class ReservationReader {
  readonly #db: Database;
  readonly #kernel: Kernel;
  readonly #queues: QueueViews;

  constructor(db: Database, kernel: Kernel, queues: QueueViews) {
    this.#db = db;
    this.#kernel = kernel;
    this.#queues = queues;
  }

  /**
   * The full id of the reservation that is meant. A beginning of an id is looked for among the user's own, if a user is named.
   * @throws Problem: unknown, or ambiguous with the candidates.
   */
  async resolve(reference: string, user: string | null): Promise<string> {
    const id = reference.toLowerCase();
    if (!/^[0-9a-f-]{4,36}$/.test(id)) throw unknown(reference);
    const found = await findReservation(this.#db, id, id.length === 36 ? null : user);
    if (!found.exists) throw unknown(reference);
    return found.id;
  }

  /** The view of one reservation, or null if there is none yet. */
  async view(id: string): Promise<ReservationView | null> {
    const row = await findReservationRow(this.#db, id);
    return row === null ? null : this.#viewOf(row);
  }

  /** The view of one reservation. @throws Problem if there is none. */
  async mustView(id: string): Promise<ReservationView> {
    const view = await this.view(id);
    if (view === null) throw unknown(id);
    return view;
  }

  /** A page of reservations, newest first, and where the next one begins. */
  async list(filter: ReservationFilter): Promise<{ views: ReservationView[]; next: { place: string; id: string } | null }> {
    const rows = await listReservationRows(this.#db, { ...filter, limit: filter.limit + 1 });
    const page = rows.slice(0, filter.limit);
    const last = rows.length > filter.limit ? page.at(-1) : undefined;
    return {
      views: await Promise.all(page.map((row) => this.#viewOf(row))),
      next: last === undefined ? null : { place: last.place, id: last.id },
    };
  }

  async #viewOf(row: ReservationRow): Promise<ReservationView> {
    const waits = row.status === 'queued' && row.substate === 'capacity';
    const place = waits ? await this.#queues.placeOf(row.gpu_type, row.id) : null;
    return viewOf(row, place, this.#kernel.kinds.get('reservation'));
  }
}

function unknown(reference: string): Problem {
  return new Problem('GPU_RESERVATION_UNKNOWN', `There is no reservation ${reference.slice(0, 64)}`, { field: 'id' });
}
