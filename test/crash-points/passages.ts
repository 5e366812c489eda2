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

/** Reads the units of one point, passage by passage. */
export class Passages {
  readonly #db: Database;
  readonly #point: CrashPoint;
  /** Mail of the turn that is under way, seen when its actors were locked. */
  #underWay: Unit[] = [];

  constructor(db: Database, point: CrashPoint) {
    this.#db = db;
    this.#point = point;
  }

  /** @returns what is at stake if this is the point that is watched, else nothing. */
  async at(point: CrashPoint, queue: string | null, answers: (effectId: string) => boolean): Promise<Unit[]> {
    if (point === 'turn.locked' && this.#point.startsWith('turn.')) this.#underWay = await this.#mail();
    const isAnswering = ({ is }: Unit) => 'effectId' in is && answers(is.effectId);
    if (point !== this.#point) return [];
    switch (point) {
      case 'turn.locked':
      case 'turn.stepped':
      case 'turn.beforeCommit':
        return this.#underWay;
      case 'turn.afterCommit':
        return this.#underWay.splice(0);
      case 'effect.leased':
        // One that only looks whether it is ready is at stake as well, and once more when it is.
        return (await this.#leased()).map((unit) => (isAnswering(unit) ? unit : { ...unit, name: `${unit.name} not yet` }));
      case 'effect.done':
        return (await this.#leased()).filter(isAnswering);
      case 'effect.afterResult':
        return this.#effects(ENDED);
      case 'sweep.fired':
        return this.#mail('deadline');
      case 'intake.beforeCommit':
        return this.#queued(queue!);
    }
  }

  async #mail(sender: string | null = null): Promise<Unit[]> {
    const { rows } = await this.#db.query<{ actor: string; key: string }>(
      'select actor, key from mailbox where not held and ($1::text is null or sender = $1)',
      [sender],
    );
    return rows.map(mailUnit);
  }

  #leased(): Promise<Unit[]> {
    return this.#effects(LEASED);
  }

  async #effects(text: typeof LEASED | typeof ENDED): Promise<Unit[]> {
    const { rows } = await this.#db.query<{ effectId: string }>(text, []);
    return rows.map(({ effectId }) => ({ name: effectId, is: { effectId } }));
  }

  async #queued(queue: string): Promise<Unit[]> {
    const { rows } = await this.#db.query<{ msgId: number }>(WAITING, [queue]);
    return rows.map(({ msgId }) => ({ name: `${queue} ${msgId}`, is: { queue, msgId } }));
  }
}

const LEASED = `select effect_id as "effectId" from effects where status = 'pending' and lease_token is not null`;
const ENDED = `select effect_id as "effectId" from effects where status in ('done', 'failed')`;
const WAITING = `
  select msg_id as "msgId" from pgmq.q_gpu_reservations where $1::text = 'gpu_reservations'
  union all select msg_id from pgmq.q_disk_operations where $1::text = 'disk_operations'`;
