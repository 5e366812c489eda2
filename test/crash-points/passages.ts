/** What stands at a crash point when it is reached: read from the database, by a connection that is not part of the victim. */
import type { CrashPoint } from '../../actors/kernel/crash-points.ts';
import type { Database } from '../../persistence/database.ts';

/** Work that a crash interrupts: a message of an actor, or an effect. */
export interface Unit {
  /** Unique among the units of a point. */
  name: string;
  /** A message: its actor and key. An effect: its id, and whether it answers now. A queue's message: its queue and number. */
  is: { mail: { actor: string; key: string } } | { effectId: string } | { queue: string; msgId: number };
}

const mailUnit = ({ actor, key }: { actor: string; key: string }): Unit => ({
  name: `${actor} ${key}`,
  is: { mail: { actor, key } },
});

const effectUnit = ({ effectId }: { effectId: string }): Unit => ({ name: effectId, is: { effectId } });

/** Reads the units of one point, passage by passage. */
export class Passages {
  readonly #db: Database;
  readonly #point: CrashPoint;
  /** The latest time that was read, where only what is newer is read again. */
  #since = new Date(0);

  constructor(db: Database, point: CrashPoint) {
    this.#db = db;
    this.#point = point;
  }

  /**
   * @returns what is at stake if this is the point that is watched, else nothing.
   * @param answerOf what a leased effect answers now: its event, null if it ends in silence, undefined if it is not ready.
   */
  async at(point: CrashPoint, queue: string | null, answerOf: (effectId: string) => object | null | undefined): Promise<Unit[]> {
    if (point !== this.#point) return [];
    const isReady = ({ is }: Unit) => 'effectId' in is && answerOf(is.effectId) !== undefined;
    switch (point) {
      case 'turn.locked':
      case 'turn.stepped':
      case 'turn.beforeCommit':
        return [...(await this.#underWay(answerOf)), ...(queue === null ? [] : await this.#queued(queue))];
      case 'turn.afterCommit':
        return (await this.#news<{ actor: string; key: string }>(TAKEN)).map(mailUnit);
      case 'effect.leased':
        // One that only looks whether it is ready is at stake as well, and once more when it is.
        return (await this.#leased()).map((unit) => (isReady(unit) ? unit : { ...unit, name: `${unit.name} not yet` }));
      case 'effect.done':
        return (await this.#leased()).filter(isReady);
      case 'effect.afterResult':
        return (await this.#news<{ effectId: string }>(ENDED)).map(effectUnit);
      case 'sweep.fired':
        return this.#mail(FIRED);
      case 'intake.beforeCommit':
        return this.#queued(queue!);
    }
  }

  /** The mail of actors that are locked, and the results that they are about to take without mail; what a door hands them is on its queue. */
  async #underWay(answerOf: (effectId: string) => object | null | undefined): Promise<Unit[]> {
    const { rows } = await this.#db.query<{ effectId: string; actor: string }>(RESULTS_UNDER_WAY, []);
    const results = rows.filter(({ effectId }) => answerOf(effectId));
    return [
      ...(await this.#mail(MAIL_UNDER_WAY)),
      ...results.map(({ actor, effectId }) => mailUnit({ actor, key: `effect:${effectId}` })),
    ];
  }

  /** Rows that were not read before, or were then the latest: time only goes on between rounds. */
  async #news<Row extends object>(text: typeof TAKEN | typeof ENDED): Promise<Row[]> {
    const { rows } = await this.#db.query<Row & { at: Date }>(text, [this.#since]);
    for (const { at } of rows) if (at > this.#since) this.#since = at;
    return rows;
  }

  async #mail(text: typeof FIRED | typeof MAIL_UNDER_WAY): Promise<Unit[]> {
    const { rows } = await this.#db.query<{ actor: string; key: string }>(text, []);
    return rows.map(mailUnit);
  }

  async #leased(): Promise<Unit[]> {
    const { rows } = await this.#db.query<{ effectId: string }>(LEASED, []);
    return rows.map(effectUnit);
  }

  async #queued(queue: string): Promise<Unit[]> {
    const { rows } = await this.#db.query<{ msgId: number }>(WAITING, [queue]);
    return rows.map(({ msgId }) => ({ name: `${queue} ${msgId}`, is: { queue, msgId } }));
  }
}

const FIRED = `select actor, key from mailbox where not held and sender = 'deadline'`;
const TAKEN = 'select actor, key, at from history where at >= $1';
const LEASED = `select effect_id as "effectId" from effects where status = 'pending' and lease_token is not null`;
const ENDED = `select effect_id as "effectId", ended_at as at from effects where status in ('done', 'failed') and ended_at >= $1`;
/** Actors that nobody has locked: one who is locked cannot be shared. */
const FREE = 'free as materialized (select actor from actors for share skip locked)';
const MAIL_UNDER_WAY = `
  with ${FREE}
  select actor, key from mailbox m where not held and not exists (select 1 from free where free.actor = m.actor)`;
const RESULTS_UNDER_WAY = `
  with ${FREE}
  select effect_id as "effectId", actor from effects e
   where status = 'pending' and lease_token is not null and not exists (select 1 from free where free.actor = e.actor)`;
const WAITING = `
  select msg_id as "msgId" from pgmq.q_gpu_reservations where $1::text = 'gpu_reservations'
  union all select msg_id from pgmq.q_disk_operations where $1::text = 'disk_operations'`;
