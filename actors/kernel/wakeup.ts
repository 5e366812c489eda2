/**
 * Wake-ups: NOTIFY, coalesced off the hot path (it takes a database-wide lock at commit). A lost notification loses nothing: everyone polls
 * slowly as well.
 */
import type { Queryable } from '../../persistence/database.ts';

/** Channel on which doors tell processors that there is mail. */
export const MAIL_CHANNEL = 'gpu_dev_mail';

/** Tells other processes that there is mail, at most once in `everyMs`. */
export class WakeUpSender {
  readonly #db: Queryable;
  readonly #everyMs: number;
  #timer: NodeJS.Timeout | null = null;

  constructor(db: Queryable, everyMs = 10) {
    this.#db = db;
    this.#everyMs = everyMs;
  }

  /** Ask for a notification soon. Never throws, never waits: the slow poll covers what is lost. */
  wake(): void {
    if (this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#db.query('select pg_notify($1, $2)', [MAIL_CHANNEL, '']).catch(() => {});
    }, this.#everyMs);
  }
}
