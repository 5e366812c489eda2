/** Reading reservations for answers: by id or the beginning of one, with place and estimate. */
import { setImmediate as nextTick } from 'node:timers/promises';
import { findReservation } from '../../actors/intake/lookup.ts';
import { type QueuePlace, readPlaces } from '../../actors/gpu-pool/line-view.ts';
import type { Made } from '../../actors/intake/create-door.ts';
import type { Kernel } from '../../actors/kernel/kernel.ts';
import type { Database, Queryable } from '../../persistence/database.ts';
import {
  findReservationRows,
  listReservationRows,
  type ReservationFilter,
  type ReservationRow,
} from '../../persistence/reservations.ts';
import type { FastifyRequest } from 'fastify';
import { findSharedIds } from '../../persistence/collaborators.ts';
import { Problem } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import { principalOf, requireReservation } from './access.ts';
import type { QueueViews } from './queue-views.ts';
import { type ReservationView, viewOf } from './reservation-view.ts';

/** A reservation and its place in a line, as they were when it was made. */
export interface Seen {
  row: ReservationRow;
  place: QueuePlace | null;
}

export interface ViewOptions {
  patienceMs?: number | undefined;
  mayWaitFor?: string | undefined;
}

export class ReservationReader {
  readonly #db: Database;
  readonly #kernel: Kernel;
  readonly #queues: QueueViews;
  /** Reservations that are read next, all in one statement. */
  #asked: { ids: Set<string>; rows: Promise<ReadonlyMap<string, ReservationRow>> } | null = null;

  constructor(db: Database, kernel: Kernel, queues: QueueViews) {
    this.#db = db;
    this.#kernel = kernel;
    this.#queues = queues;
  }

  /**
   * The reservation that a request means, if it may do to it what its route does. A beginning of an id is looked for among one's own, then
   * among those that one was let into; for an admin, then among all.
   * @throws Problem: unknown (or none of their business), ambiguous with the candidates, or beyond the role of the one who asks.
   */
  async open(request: FastifyRequest, reference: string): Promise<{ id: string; owner: string }> {
    const id = reference.toLowerCase();
    if (!/^[0-9a-f-]{4,36}$/.test(id)) throw unknown(reference);
    const full = id.length === 36 ? id : await this.#complete(principalOf(request), id);
    const { owner } = await requireReservation(this.#db, request, full);
    return { id: full, owner };
  }

  async #complete(principal: Principal, beginning: string): Promise<string> {
    try {
      return (await findReservation(this.#db, beginning, principal.user)).id;
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== 'GPU_RESERVATION_UNKNOWN') throw error;
      const shared = await findSharedIds(this.#db, beginning, principal.userId, principal.github);
      if (shared.length === 1) return shared[0]!;
      if (shared.length > 1) throw ambiguous(beginning, shared);
      if (!principal.admin) throw error;
      return (await findReservation(this.#db, beginning, null)).id;
    }
  }

  /**
   * The view of one reservation, or null if there is none yet.
   * @param patienceMs how long an estimate may be waited for
   * @param mayWaitFor a GPU type in whose line it probably waits: its place is asked for beside its row
   */
  async view(id: string, { patienceMs, mayWaitFor }: ViewOptions = {}): Promise<ReservationView | null> {
    const place = mayWaitFor === undefined ? undefined : this.#queues.placeOf(mayWaitFor, id, patienceMs);
    place?.catch(() => {}); // told below, if it matters
    const row = (await this.#rowsWith(id)).get(id);
    return row === undefined ? null : this.#viewOf(row, patienceMs, place);
  }

  /** Of reservations that have just been made, what their views need, by id. */
  async see(db: Queryable, made: readonly Made[]): Promise<ReadonlyMap<string, Seen>> {
    const types = Map.groupBy(made, ({ gpuType }) => gpuType);
    const [rows, ...places] = await Promise.all([
      findReservationRows(
        db,
        made.map(({ id }) => id),
      ),
      ...[...types].map(([gpuType, those]) =>
        readPlaces(
          db,
          gpuType,
          those.map(({ id }) => id),
        ),
      ),
    ]);
    const placed = new Map(places.flatMap((those) => [...those]));
    return new Map(rows.map((row) => [row.id, { row, place: placed.get(row.id) ?? null }]));
  }

  /** The view of what was seen. @param patienceMs how long an estimate may be waited for */
  async viewOf({ row, place }: Seen, patienceMs?: number): Promise<ReservationView> {
    const told = place === null ? null : await this.#queues.estimated(row.gpu_type, row.id, place, patienceMs);
    return viewOf(row, told, this.#kernel.kinds.get('reservation'));
  }

  /** The row of this one, as of now or later, among those of others that are asked for in the same moment. */
  #rowsWith(id: string): Promise<ReadonlyMap<string, ReservationRow>> {
    if (this.#asked === null) {
      const ids = new Set<string>();
      const rows = nextTick().then(async () => {
        this.#asked = null;
        return new Map((await findReservationRows(this.#db, [...ids])).map((row) => [row.id, row]));
      });
      this.#asked = { ids, rows };
    }
    this.#asked.ids.add(id);
    return this.#asked.rows;
  }

  /** The view of one reservation. @throws Problem if there is none. */
  async mustView(id: string): Promise<ReservationView> {
    const view = await this.view(id);
    if (view === null) throw unknown(id);
    return view;
  }

  /** The views of many, by id; what does not exist is not among them. */
  async views(ids: readonly string[]): Promise<ReadonlyMap<string, ReservationView>> {
    const rows = await findReservationRows(this.#db, ids);
    return new Map(await Promise.all(rows.map(async (row) => [row.id, await this.#viewOf(row)] as const)));
  }

  /** The place of a reservation in the line of its type; null if it does not wait there. */
  placeOf(gpuType: string, id: string): Promise<QueuePlace | null> {
    return this.#queues.placeOf(gpuType, id);
  }

  /** Places of many in the line of their type, a portion of those who stand far back from `from` on: see {@link QueueViews.placesOf}. */
  placesOf(gpuType: string, ids: readonly string[], from: number) {
    return this.#queues.placesOf(gpuType, ids, from);
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

  async #viewOf(row: ReservationRow, patienceMs?: number, asked?: Promise<QueuePlace | null>): Promise<ReservationView> {
    const waits = row.status === 'queued' && row.substate === 'capacity';
    const place = waits ? await (asked ?? this.#queues.placeOf(row.gpu_type, row.id, patienceMs)) : null;
    return viewOf(row, place, this.#kernel.kinds.get('reservation'));
  }
}

function ambiguous(beginning: string, candidates: string[]): Problem {
  return new Problem('GPU_RESERVATION_AMBIGUOUS', `${beginning} is the beginning of ${candidates.length} reservations`, {
    field: 'id',
    details: { candidates },
  });
}

function unknown(reference: string): Problem {
  return new Problem('GPU_RESERVATION_UNKNOWN', `There is no reservation ${reference.slice(0, 64)}`, { field: 'id' });
}
