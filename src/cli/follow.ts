/** Following a reservation: what it does is shown while it does it, and a service that is away for a while is waited for. */
import { setTimeout as pause } from 'node:timers/promises';
import type { ReservationView } from '../http/reservation-view.ts';
import { UnreachableError } from './client.ts';
import type { Context } from './context.ts';
import { CliError } from './exit.ts';
import { clean, clock, span, summary } from './format.ts';
import { Live, NoStreamError } from './live.ts';
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

  /** A line that stays. */
  note(text: string): void {
    if (this.#to === null) return;
    this.end();
    this.#to.write(`${text}\n`);
  }

  /** Leave the terminal with an empty line to write on. */
  end(): void {
    if (this.#to?.isTTY === true && this.#shown !== '') this.#to.write('\r\u001b[2K');
    this.#shown = '';
  }
}

/**
 * Follow a reservation until `done` says so: by its stream, or by asking every half second where the service has none.
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
  const live = new Live(context.client, id);
  let asks = false;
  let lastAnswer = performance.now();
  let last: ReservationView | null = null;
  const take = (view: ReservationView): boolean => {
    lastAnswer = performance.now();
    last = view;
    onView(view);
    return done(view);
  };
  // What counts down on a terminal goes on while nothing happens.
  const ticker = progress.live ? setInterval(() => last !== null && onView(last), POLL_MS) : undefined;
  try {
    for (;;) {
      try {
        if (asks) {
          const view = await context.client.get<ReservationView>(`/v1/reservations/${id}`);
          if (take(view)) return view;
        } else {
          for await (const news of live.listen()) {
            if ('warning' in news) progress.note(warningOf(news.view, news.warning));
            if (take(news.view)) return news.view;
          }
        }
      } catch (error) {
        interrupted.throwIfAborted();
        if (error instanceof NoStreamError) {
          asks = true;
          continue;
        }
        const isAway = error instanceof UnreachableError || !(error instanceof CliError);
        if (!isAway || performance.now() - lastAnswer > AWAY_MS) throw error;
        if (error instanceof UnreachableError) {
          last = null;
          progress.show(`The service does not answer at ${clean(context.client.url)}; trying again`);
        }
      }
      await pause(POLL_MS, undefined, { signal: interrupted });
    }
  } finally {
    clearInterval(ticker);
    progress.end();
  }
}

function warningOf({ name, expires_at: end }: ReservationView, minutes: number): string {
  return `${clean(name)} ends in ${minutes} minutes${end === null ? '' : `, at ${clock(end)}`}: save your work, or extend it.`;
}

/** Shows the state of what is followed. Only a line that is rewritten counts down: elsewhere that would make a line each time. */
export function shower(progress: Progress): (view: ReservationView) => void {
  return (view) => progress.show(summary(view, progress.live));
}
