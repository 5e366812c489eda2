/** What the stream of one reservation tells, over as many connections as it takes. */
import type { ReservationView } from '../http/reservation-view.ts';
import type { Client } from './client.ts';
import { readEvents } from './event-source.ts';

/** The service shows every 15 s that it lives. Who hears nothing for longer connects again. */
const SILENCE_MS = 45_000;

export type News = { view: ReservationView } | { warning: number; view: ReservationView };

/** This service has no such stream, or none to spare: it must be asked instead. */
export class NoStreamError extends Error {
  override readonly name = 'NoStreamError';
}

export class Live {
  readonly #client: Client;
  readonly #path: string;
  #lastId = '';
  #view: ReservationView | null = null;

  constructor(client: Client, id: string) {
    this.#client = client;
    this.#path = `/v1/reservations/${encodeURIComponent(id)}/stream`;
  }

  /**
   * What comes over one connection, until it ends; the next call goes on where it ended.
   * @throws NoStreamError, UnreachableError, or the error of a connection that broke
   */
  async *listen(): AsyncGenerator<News> {
    const silence = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
    };
    try {
      heard();
      const headers = { accept: 'text/event-stream', ...(this.#lastId === '' ? {} : { 'last-event-id': this.#lastId }) };
      const response = await this.#client.open(this.#path, headers, silence.signal);
      const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') === true;
      if (!response.ok || !isStream || response.body === null) {
        await response.body?.cancel();
        throw new NoStreamError(`There is no stream: ${response.status}`);
      }
      for await (const { id, event, data } of readEvents(noticed(response.body, heard))) {
        this.#lastId = id;
        const news = data === '' ? null : this.#newsOf(event, JSON.parse(data) as Told);
        if (news !== null) yield news;
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #newsOf(event: string, told: Told): News | null {
    const view = told.reservations?.[0] ?? told.reservation ?? null;
    if (view !== null) this.#view = view;
    else if (event === 'position' && this.#view !== null) this.#view = { ...this.#view, ...placeOf(told) };
    else if (event !== 'warning') return null;
    if (this.#view === null) return null;
    return event === 'warning' && typeof told.minutes === 'number'
      ? { warning: told.minutes, view: this.#view }
      : { view: this.#view };
  }
}

interface Told {
  reservations?: ReservationView[];
  reservation?: ReservationView | null;
  minutes?: number | null;
  position?: number | null;
  estimated_start?: string | null;
  waits_because?: string | null;
}

function placeOf({ position = null, estimated_start = null, waits_because = null }: Told) {
  return { position, estimated_start, waits_because };
}

async function* noticed(body: AsyncIterable<Uint8Array>, onBytes: () => void): AsyncGenerator<Uint8Array> {
  for await (const bytes of body) {
    onBytes();
    yield bytes;
  }
}
