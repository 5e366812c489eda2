/**
 * Actors that are left alone for a while because a stranger's transaction holds rows that their turns must write: an operator's session left
 * idle, say. Only a courtesy to the others' speed, so it lives in memory; what keeps turns apart are the locks.
 */

/** How long an actor is left alone, in milliseconds. */
const PAUSE_MS = 5_000;

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
  readonly #until = new Map<string, number>();

  add(actor: string): void {
    this.#until.set(actor, performance.now() + PAUSE_MS);
  }

  /** Those to be left alone now. */
  list(): string[] {
    const now = performance.now();
    for (const [actor, until] of this.#until) if (until <= now) this.#until.delete(actor);
    return [...this.#until.keys()];
  }
}
