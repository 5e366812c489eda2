/** Those who ask the service for something, and ask again until they have an answer. */
import { accept, posting } from '../../../actors/intake/doors.ts';
import { Problem } from '../../../actors/problem.ts';
import { isRetryableDatabaseError } from '../../../persistence/database.ts';
import { Tx } from '../store/tables.ts';
import type { Op } from './plan.ts';
import type { Simulation } from './simulation.ts';

export class Clients {
  /** Requests without an answer. */
  open = 0;
  readonly #simulation: Simulation;

  constructor(simulation: Simulation) {
    this.#simulation = simulation;
  }

  /** Somebody posts an event, and insists on it. */
  send(actor: string, key: string, event: { type: string; [key: string]: unknown }): void {
    this.#insist('send', async () => {
      const alive = this.#simulation.processes.filter(({ session }) => session.alive);
      const message = { actor, key, event, sender: 'service' };
      const { kernel } = this.#simulation.random.pick(alive);
      if (this.#simulation.random.chance(0.5)) await kernel.post([message]);
      else await kernel.deliver(async (_tx, post) => post([message]));
    });
  }

  /** A user asks for something. */
  ask(op: Op): void {
    this.#simulation.tell(`${op.door}: ${JSON.stringify(op.body).slice(0, 300)}`);
    if (op.door !== 'http') {
      const tx = new Tx(this.#simulation.scheduler.now);
      const at = this.#simulation.scheduler.now;
      const msgId = ++this.#simulation.tables.lastMsgId;
      const row = { queue: op.door, msgId, readCount: 0, enqueuedAt: at, visibleAt: at, message: op.body, archived: false };
      this.#simulation.tables.queues.insert(row, tx);
      tx.end(true);
      this.#simulation.wakeAll();
      return;
    }
    const key = `http-${this.#simulation.random.uuid()}`;
    this.#insist('ask', async () => {
      const alive = this.#simulation.processes.filter(({ session }) => session.alive);
      const process = this.#simulation.random.pick(alive);
      try {
        await process.kernel.deliver((tx, post) =>
          accept(posting(post), tx, op.body, { door: 'http', key, newId: () => this.#simulation.random.uuid() }),
        );
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        this.#simulation.tell(`refused: ${error.message}`);
      }
    });
  }

  /** Try until it succeeds, as a client would: one whose server has died asks again. */
  #insist(what: string, work: () => Promise<void>, tries = 0): void {
    if (tries === 0) this.open++;
    let open = true;
    const again = () => {
      if (!open) return;
      open = false;
      this.#insist(what, work, tries + 1);
    };
    work().then(
      () => {
        if (open) this.open--;
        open = false;
      },
      (error: unknown) => {
        if (!isRetryableDatabaseError(error)) this.#simulation.onFailure(what, error);
        this.#simulation.scheduler.at(this.#simulation.scheduler.now + 200, this.#simulation.world, again);
      },
    );
    // No answer: its process may be gone.
    this.#simulation.scheduler.at(this.#simulation.scheduler.now + 30_000, this.#simulation.world, again);
  }
}
