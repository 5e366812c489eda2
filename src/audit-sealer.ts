/** Puts rows of the audit log into its chain, within a second of their commit. One process at a time does it; the others stand by. */
import { randomUUID } from 'node:crypto';
import { Loop } from '../actors/kernel/loop.ts';
import { anyPending, sealNext } from '../persistence/audit-seals.ts';
import type { Database } from '../persistence/database.ts';
import { assertLease, dropLease, holdLease } from '../persistence/leases.ts';

const LEASE = 'audit-sealer';
const LEASE_SECONDS = 5;
const EVERY_MS = 500;
const PORTION = 1_000;

export interface AuditSealerSettings {
  db: Database;
  onError: (error: unknown) => void;
}

export class AuditSealer {
  readonly #settings: AuditSealerSettings;
  readonly #holder = randomUUID();
  readonly #loop: Loop;

  constructor(settings: AuditSealerSettings) {
    this.#settings = settings;
    this.#loop = new Loop({ name: 'audit sealer', work: () => this.seal(), onError: settings.onError });
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
    await dropLease(this.#settings.db, LEASE, this.#holder).catch(this.#settings.onError);
  }

  /** Seal what waits, if it is this process's turn. @returns how long to sleep, in milliseconds */
  async seal(): Promise<number> {
    const { db } = this.#settings;
    if (!(await anyPending(db))) return EVERY_MS;
    const token = await holdLease(db, LEASE, this.#holder, LEASE_SECONDS);
    if (token === null) return EVERY_MS;
    const count = await db.withTransaction(async (tx) => {
      // Of two that both believe in their lease, one alone passes, and the other sees what it wrote.
      await assertLease(tx, LEASE, token);
      return sealNext(tx, PORTION);
    });
    return count === PORTION ? 0 : EVERY_MS;
  }
}
