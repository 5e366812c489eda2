/**
 * Actors that are left alone for a while because a stranger's transaction holds rows that their turns must write: an operator's session left
 * idle, say. Only a courtesy to the others' speed, so it lives in memory; what keeps turns apart are the locks.
 */

/** How long an actor is left alone, in milliseconds; twice as long each time that it is met blocked again, up to the longest. */
const FIRST_MS = 2_000;
const LONGEST_MS = 30_000;

/** A turn of this actor alone had to wait for a lock for too long. */
export class BlockedActor extends Error {
  override readonly name = 'BlockedActor';
  readonly actor: string;
  constructor(actor: string, cause: unknown) {
    super(`Rows that a turn of ${actor} must write are locked by somebody else`, { cause });
    this.actor = actor;
  }
}

/** True if a statement waited for a lock for too long. */
export function isLockTimeout(error: unknown): boolean {
  return error instanceof Error && (error as { code?: unknown }).code === '55P03';
}

export class PutOff {
  readonly #pauses = new Map<string, { until: number; milliseconds: number }>();

  add(actor: string): void {
    const now = performance.now();
    const before = this.#pauses.get(actor);
    const milliseconds = before === undefined ? FIRST_MS : Math.min(LONGEST_MS, before.milliseconds * 2);
    this.#pauses.set(actor, { until: now + milliseconds, milliseconds });
  }

  /** Those to be left alone now. */
  list(): string[] {
    const now = performance.now();
    const here: string[] = [];
    for (const [actor, { until, milliseconds }] of this.#pauses) {
      if (until > now) here.push(actor);
      // It has been well for as long again: it begins anew.
      else if (until + milliseconds < now) this.#pauses.delete(actor);
    }
    return here;
  }
}
