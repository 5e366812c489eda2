/** One run of journeys through the real kernel on a database of its own, with or without deaths at crash points. */
import { isDeepStrictEqual } from 'node:util';
import { NotYet, TerminalError } from '../../actors/errors.ts';
import { armCrashPoints, type CrashPoint } from '../../actors/kernel/crash-points.ts';
import { Kernel } from '../../actors/kernel/kernel.ts';
import type { ActorKind, EffectHandler } from '../../actors/kernel/kind.ts';
import { Database, isRetryableDatabaseError } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { KINDS } from '../model/drive.ts';
import type { Case } from '../model/graph.ts';
import { openPools, saveDisks } from '../model/owned.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Answer, type Journey, nameOf, timeOf } from './journey.ts';
import { type Fate, Life, QUEUES } from './life.ts';
import { Passages, type Unit } from './passages.ts';
import { THROWN, WISHES, type Wish } from './ways.ts';

/** How long an effect rests whose time to answer has not come, in milliseconds: not until the next round. */
const REST_MS = 50;

export interface RunSettings {
  /** What happens at the points; death if nothing is said. */
  fate?: Fate;
  /** Spoils the kinds, to see that it shows. */
  change?: ((kind: ActorKind, db: Database) => ActorKind) | undefined;
}

export class Run {
  readonly db: Database;
  /** What was at stake at each point, by name, when fate struck there. */
  readonly struck: ReadonlyMap<CrashPoint, Map<string, Unit>>;
  /** How often the handler of each effect has answered. */
  readonly answered = new Map<string, number>();
  /** What each message on a queue has become: where it stands in history. */
  readonly sentAs = new Map<string, { actor: string; key: string }>();
  /** How often fate has struck. */
  strokes = 0;
  readonly #answeredThen = new Map<string, number>();
  readonly #database: TestDatabase;
  readonly #settings: RunSettings;
  readonly #passages: ReadonlyMap<CrashPoint, Passages>;
  readonly #outside: Kernel;
  readonly #kinds: readonly ActorKind[];
  readonly #answers = new Map<string, Answer>();
  #life: Life | null = null;
  #round = 0;

  private constructor(database: TestDatabase, points: readonly CrashPoint[], settings: RunSettings) {
    this.#settings = settings;
    const { change = (kind: ActorKind) => kind } = settings;
    this.#database = database;
    this.db = new Database({ ...database.config, maxConnections: 2 });
    this.struck = new Map(points.map((point) => [point, new Map()]));
    this.#passages = new Map(points.map((point) => [point, new Passages(this.db, point)]));
    this.#kinds = Object.values(KINDS).map((kind) => change(this.#withHands(kind), this.db));
    this.#outside = new Kernel({ db: this.db, kinds: this.#kinds, clock: this.#clock });
  }

  /** A database for journeys, which goes when the run is ended. */
  static async begin(points: readonly CrashPoint[], journeys: readonly Journey[], settings: RunSettings = {}): Promise<Run> {
    const run = new Run(await createTestDatabase(), points, { fate: 'death', ...settings });
    const idsOf = (name: string) => journeys.filter(({ kind }) => kind.kind === name).map(({ id }) => id);
    await openPools(run.db, idsOf('gpu-pool'));
    await saveDisks(run.db, idsOf('disk'));
    for (const { answers } of journeys) for (const [effectId, answer] of answers) run.#answers.set(effectId, answer);
    return run;
  }

  /** Effects whose handlers have answered again after a death that came when they had ended. */
  ranAgain(): string[] {
    return [...this.#answeredThen].flatMap(([effectId, then]) => ((this.answered.get(effectId) ?? 0) > then ? [effectId] : []));
  }

  async end(): Promise<void> {
    await this.#life?.end();
    await this.db.close();
    await this.#database.drop();
  }

  /** Let these actors go their ways beside each other, all in the same batches. */
  async go(journeys: readonly Journey[]): Promise<void> {
    const last = Math.max(...journeys.map(({ stages }) => stages.at(-1)!.round));
    for (this.#round = 0; this.#round <= last; this.#round++) {
      await this.#send(journeys);
      await this.settle();
      await this.#check(journeys);
    }
  }

  readonly #clock = { now: () => timeOf(this.#round) };

  /** The kind with handlers that answer what the path says, when it says so. */
  #withHands(kind: ActorKind): ActorKind {
    const handler: EffectHandler = async (_effect, { effectId }) => {
      const event = this.#answerOf(effectId);
      if (event === undefined) throw new NotYet(REST_MS, 'The path goes elsewhere first');
      this.answered.set(effectId, (this.answered.get(effectId) ?? 0) + 1);
      if (event !== null && THROWN.has(event.type)) throw new TerminalError(String(event['reason']));
      return event;
    };
    return { ...kind, handlers: Object.fromEntries(Object.keys(kind.handlers).map((type) => [type, handler])) };
  }

  /** What this effect answers now; undefined before its round. */
  #answerOf(effectId: string): Case | null | undefined {
    const answer = this.#answers.get(effectId);
    if (answer === undefined) return null;
    return answer.round === this.#round ? answer.event : undefined;
  }

  /** What comes from outside in this round. */
  async #send(journeys: readonly Journey[]): Promise<void> {
    const posts: Message[] = [];
    const due: { actor: string; name: string }[] = [];
    const wishes: { wish: Wish; actor: string }[] = [];
    for (const { actor, id, number, stages } of journeys) {
      const index = stages.findIndex(({ round }) => round === this.#round);
      const stage = stages[index];
      if (stage === undefined) continue;
      const { event, way } = stage;
      if (way === 'post') posts.push({ actor, key: `step-${index}`, event, sender: 'model' });
      if (way === 'sweep') due.push({ actor, name: nameOf(event) });
      if (way === 'queue') {
        const target = { id, name: `disk-${number}`, operation: `op-${number}-${index}` };
        wishes.push({ wish: WISHES.get(event.type)!(event, target), actor });
      }
    }
    await this.post(posts);
    await this.#makeDue(due);
    for (const queue of QUEUES) {
      const own = wishes.filter(({ wish }) => wish.queue === queue);
      const ids = await this.enqueue(
        queue,
        own.map(({ wish }) => wish.body),
      );
      for (const [index, { wish, actor }] of own.entries())
        this.sentAs.set(`${queue} ${ids[index]}`, { actor, key: wish.key ?? `queue:${queue}:${ids[index]}` });
    }
  }

  /** Post messages from outside. */
  async post(messages: readonly Message[]): Promise<void> {
    await this.#outside.post(messages);
  }

  /** Time does not reach the deadlines of all paths at once: so these deadlines come to the time. */
  async #makeDue(due: readonly { actor: string; name: string }[]): Promise<void> {
    const { rowCount } = await this.db.query(
      `update deadlines d set due_at = $3 from unnest($1::text[], $2::text[]) as due(actor, name)
        where d.actor = due.actor and d.name = due.name and fired_at is null`,
      [due.map(({ actor }) => actor), due.map(({ name }) => name), this.#clock.now()],
    );
    if (rowCount === due.length) return;
    const { rows } = await this.db.query<{ place: string }>(
      `select actor || ' ' || name as place from deadlines where fired_at is null`,
    );
    const standing = new Set(rows.map(({ place }) => place));
    const missing = due.map(({ actor, name }) => `${actor} ${name}`).filter((place) => !standing.has(place));
    throw new Error(`These deadlines do not stand: ${missing.join(', ')}`);
  }

  /** Put messages on a queue. @returns their numbers. */
  async enqueue(queue: Wish['queue'], bodies: readonly Record<string, unknown>[]): Promise<number[]> {
    if (bodies.length === 0) return [];
    const { rows } = await this.db.query<{ id: number }>('select pgmq.send_batch($1, $2::jsonb[]) as id', [
      queue,
      bodies.map((body) => JSON.stringify(body)),
    ]);
    return rows.map(({ id }) => id);
  }

  /** Work until there is nothing to do, in as many lives as it takes. */
  async settle(): Promise<void> {
    armCrashPoints(this.#passages.size === 0 ? null : (point) => this.#life?.reach(point));
    let settled = this.strokes;
    try {
      for (;;) {
        this.#life ??= await Life.begin({
          observer: this.db,
          config: this.#database.config,
          kinds: this.#kinds,
          clock: this.#clock,
          fateAt: async (point, queue) => {
            if (!(await this.#isFresh(point, queue))) return null;
            this.strokes++;
            return this.#settings.fate!;
          },
        });
        const outcome = await this.#life.workUntilIdle().catch((error: unknown) => {
          if (this.#settings.fate !== 'lost answer' || !isRetryableDatabaseError(error)) throw error;
          return 'lost answer' as const;
        });
        if (outcome === false) this.#life = null;
        // Who ends an effect swallows the loss of its answer, and waits for the lease to run out.
        if (outcome === true && this.strokes === settled) return;
        settled = this.strokes;
        // Time stands still within a round: so the leases of the dead run out at once.
        await this.db.query(
          `update effects set lease_until = '-infinity' where status = 'pending' and lease_token is not null`,
          [],
        );
      }
    } finally {
      armCrashPoints(null);
    }
  }

  /** Whether anything is at stake that was not before. */
  async #isFresh(point: CrashPoint, queue: string | null): Promise<boolean> {
    let isFresh = false;
    for (const [watched, passages] of this.#passages) {
      const struck = this.struck.get(watched)!;
      for (const unit of await passages.at(point, queue, (effectId) => this.#answerOf(effectId))) {
        if (struck.has(unit.name)) continue;
        struck.set(unit.name, unit);
        isFresh = true;
        if (point === 'effect.afterResult') this.#answeredThen.set(unit.name, this.answered.get(unit.name) ?? 0);
      }
    }
    return isFresh;
  }

  /** Each actor has come as far as its path says. */
  async #check(journeys: readonly Journey[]): Promise<void> {
    const { rows } = await this.db.query<{ actor: string; seq: number }>(
      'select actor, seq from actors where actor = any($1::text[])',
      [journeys.map(({ actor }) => actor)],
    );
    const seqs = new Map(rows.map(({ actor, seq }) => [actor, seq]));
    for (const { actor, stages } of journeys) {
      const expected = stages.filter(({ round }) => round <= this.#round).length;
      if (isDeepStrictEqual(seqs.get(actor), expected)) continue;
      const way = stages.slice(0, expected + 1).map((stage) => `${stage.event.type} (${stage.way}, ${stage.round})`);
      throw new Error(`${actor} has taken ${seqs.get(actor)} of ${expected} steps in round ${this.#round}: ${way.join(' → ')}`);
    }
  }
}
