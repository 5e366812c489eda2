/** Following a reservation: what it does is shown while it does it, and a service that is away for a while is waited for. */
import { setTimeout as pause } from 'node:timers/promises';
import type { ReservationView } from '../http/reservation-view.ts';
import { UnreachableError } from './client.ts';
import type { Context } from './context.ts';
import { clean, span, summary } from './format.ts';
import type { Output } from './surroundings.ts';

const POLL_MS = 500;
/** A service that restarts is back sooner. */
const AWAY_MS = 60_000;

/** One line that is rewritten on a terminal, and a line per change elsewhere. */
export class Progress {
  readonly #to: Output | null;
  readonly #begun = performance.now();
  #shown = '';

  /** @param to null shows nothing. */
  constructor(to: Output | null) {
    this.#to = to;
  }

  /** True if what it shows is rewritten in place. */
  get live(): boolean {
    return this.#to?.isTTY === true;
  }

  show(text: string): void {
    if (this.#to === null) return;
    if (this.#to.isTTY !== true) {
      if (text !== this.#shown) this.#to.write(`${text}\n`);
    } else {
      const line = `${text} (${span(performance.now() - this.#begun)})`;
      this.#to.write(`\r\u001b[2K${line.slice(0, Math.max(20, (this.#to.columns ?? 80) - 1))}`);
    }
    this.#shown = text;
  }

  /** Leave the terminal with an empty line to write on. */
  end(): void {
    if (this.#to?.isTTY === true && this.#shown !== '') this.#to.write('\r\u001b[2K');
    this.#shown = '';
  }
}

/**
 * Look at a reservation every half second until `done` says so.
 * @throws CliError if the service stays away for a minute, or the interruption.
 */
export async function follow(
  context: Context,
  id: string,
  done: (view: ReservationView) => boolean,
  onView: (view: ReservationView) => void,
  progress: Progress,
): Promise<ReservationView> {
  const { interrupted } = context.surroundings;
  let lastAnswer = performance.now();
  try {
    for (;;) {
      try {
        const view = await context.client.get<ReservationView>(`/v1/reservations/${id}`);
        lastAnswer = performance.now();
        onView(view);
        if (done(view)) return view;
      } catch (error) {
        if (!(error instanceof UnreachableError) || performance.now() - lastAnswer > AWAY_MS) throw error;
        progress.show(`The service does not answer at ${clean(context.client.url)}; trying again`);
      }
      await pause(POLL_MS, undefined, { signal: interrupted });
    }
  } finally {
    progress.end();
  }
}

/** Shows the state of what is followed. Only a line that is rewritten counts down: elsewhere that would make a line each time. */
export function shower(progress: Progress): (view: ReservationView) => void {
  return (view) => progress.show(summary(view, progress.live));
}
