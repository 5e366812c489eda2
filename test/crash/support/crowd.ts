/** Guests who come, extend, leave early, say everything twice, or say things in the wrong order; and what must have become of each. */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'vitest';
import { between } from './killer.ts';
import type { Scene } from './scene.ts';

interface Guest {
  id: string;
  hours: number;
  disk: boolean;
  /** Keys of what was asked for beside the create, each once. */
  operations: { key: string; action: 'extend' | 'cancel' }[];
}

export class Crowd {
  readonly guests = new Map<string, Guest>();
  /** Messages that were sent a second time. */
  duplicates = 0;
  /** Messages that were sent before the create they belong to. */
  early = 0;
  readonly #scene: Scene;
  /** Longest wait before a later message, in milliseconds. */
  readonly #laterMs: number;
  readonly #sending = new Set<Promise<void>>();

  constructor(scene: Scene, laterMs: number) {
    this.#scene = scene;
    this.#laterMs = laterMs;
  }

  /** One more guest, whose messages are sent over the next seconds. */
  arrive(): void {
    const id = randomUUID();
    const user = `user-${this.guests.size}`;
    const guest: Guest = { id, hours: Math.round(between([10, 30])) / 100, disk: Math.random() < 0.5, operations: [] };
    this.guests.set(id, guest);
    const create = {
      action: 'create_reservation',
      reservation_id: id,
      user_id: user,
      gpu_type: 'h100',
      gpu_count: [1, 1, 2, 4][Math.floor(Math.random() * 4)],
      duration_hours: guest.hours,
      disk_name: guest.disk ? 'default' : null,
    };
    const ask = (action: 'extend' | 'cancel', fields: object = {}) => {
      const key = randomUUID();
      guest.operations.push({ key, action });
      return { action, reservation_id: id, user_id: user, operation_id: key, ...fields };
    };
    const later: object[] = [];
    if (Math.random() < 0.3) later.push(ask('extend', { extension_hours: 0.1 }));
    if (Math.random() < 0.3) later.push(ask('cancel'));
    const tenth = () => Math.random() < 0.1;
    for (const message of [create, ...later]) {
      if (!tenth()) continue;
      later.push(message);
      this.duplicates++;
    }
    const before = later.length > 0 && tenth() ? later.shift()! : null;
    if (before !== null) this.early++;
    if (later.length > 1 && tenth()) later.reverse();
    const sending: Promise<void> = (async () => {
      if (before !== null) await this.#scene.send(before);
      await this.#scene.send(create);
      for (const message of later) {
        await pause(Math.random() * this.#laterMs);
        await this.#scene.send(message);
      }
    })().finally(() => this.#sending.delete(sending));
    this.#sending.add(sending);
  }

  /** Wait until all that was begun is sent. */
  async allSent(): Promise<void> {
    while (this.#sending.size > 0) await Promise.all(this.#sending);
  }

  /** How many have come and are not gone, as far as the service knows. */
  async present(): Promise<number> {
    const { rows } = await this.#scene.db.query<{ n: number }>(
      `select count(*)::int as n from actors where kind = 'reservation' and status = 'done'`,
    );
    return this.guests.size - rows[0]!.n;
  }

  /** What became of each is what was asked for, once. @returns how many have which end. */
  async expectFair(): Promise<Record<string, number>> {
    const { rows } = await this.#scene.db.query<{
      id: string;
      status: string;
      reason: string | null;
      hours: number;
      submitted: number;
      granted: number;
      processed: string[];
      snapshots: number | null;
      ran: boolean;
    }>(FATES);
    const ends: Record<string, number> = {};
    expect(rows.map((row) => row.id).sort()).toEqual([...this.guests.keys()].sort());
    for (const row of rows) {
      const guest = this.guests.get(row.id)!;
      const about = `${row.id}: ${row.status}, ${row.reason}`;
      const wasCancelled = guest.operations.some(({ action }) => action === 'cancel');
      ends[row.status === 'failed' ? `failed (${row.reason})` : row.status] = (ends[row.status] ?? 0) + 1;
      expect(row.submitted, about).toBe(1);
      expect(row.processed.sort(), about).toEqual(guest.operations.map(({ key }) => `op:${key}`).sort());
      if (row.status === 'cancelled') expect(wasCancelled, about).toBe(true);
      expect(row.granted, about).toBeLessThanOrEqual(guest.operations.filter(({ action }) => action === 'extend').length);
      expect(row.hours, about).toBeCloseTo(guest.hours + 0.1 * row.granted, 6);
      if (guest.disk && row.ran && row.status !== 'failed') expect(row.snapshots, about).toBe(1);
      expect(this.#scene.watch.most.get(row.id) ?? 0, `pods at once of ${about}`).toBeLessThanOrEqual(1);
      expect(this.#scene.watch.ever.get(row.id)?.size ?? 0, `pods ever of ${about}`).toBeGreaterThanOrEqual(row.ran ? 1 : 0);
    }
    return ends;
  }
}

const FATES = `
  select r.reservation_id as id, r.status::text as status, r.failure_reason as reason, r.total_hours as hours,
         (select count(*)::int from history h where h.actor = a.actor and h.event ->> 'type' = 'reservation.submitted' and h.outcome = 'applied') as submitted,
         (select count(*)::int from history h where h.actor = a.actor and h.event ->> 'type' = 'extension.allowed' and h.outcome = 'applied') as granted,
         (select coalesce(array_agg(h.key), '{}') from history h where h.actor = a.actor and h.key like 'op:%') as processed,
         (select d.snapshot_count from disks d where d.disk_id = r.disk_id) as snapshots,
         r.launched_at is not null as ran
    from reservations r join actors a on a.actor = 'reservation/' || r.reservation_id`;
