/** Many who ask the same kind of question at the same time, and one look that answers them all. */

interface Asker<Q, A> {
  question: Q;
  resolve: (answer: A) => void;
  reject: (error: unknown) => void;
}

/**
 * Gathers questions and answers them together. An answer comes from a look that began after its question was asked, never from an earlier
 * one: what such a look has seen of the world may be over. Looks do not overlap, and begin at least `everyMs` milliseconds after each other;
 * the first question after a pause is not held up.
 */
export class Gathered<Q, A> {
  readonly #look: (questions: readonly Q[]) => Promise<readonly PromiseSettledResult<A>[]>;
  readonly #everyMs: number;
  #waiting: Asker<Q, A>[] = [];
  /** A look is being made, or is set for a time. */
  #busy = false;
  #next = Number.NEGATIVE_INFINITY;

  /** @param look answers each question, in order; if it rejects, nobody is answered */
  constructor(look: (questions: readonly Q[]) => Promise<readonly PromiseSettledResult<A>[]>, everyMs: number) {
    this.#look = look;
    this.#everyMs = everyMs;
  }

  /** @throws what the look met with, be it as a whole or over this question */
  ask(question: Q): Promise<A> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ question, resolve, reject });
      this.#set();
    });
  }

  /** Set the next look, if somebody waits for one. Not at once: who asks in the same breath is to be part of it. */
  #set(): void {
    if (this.#busy || this.#waiting.length === 0) return;
    this.#busy = true;
    setTimeout(() => void this.#make(), Math.max(0, this.#next - performance.now()));
  }

  async #make(): Promise<void> {
    const askers = this.#waiting;
    this.#waiting = [];
    this.#next = performance.now() + this.#everyMs;
    try {
      const answers = await this.#look(askers.map(({ question }) => question));
      for (const [index, { resolve, reject }] of askers.entries()) {
        const answer = answers[index]!;
        if (answer.status === 'fulfilled') resolve(answer.value);
        else reject(answer.reason);
      }
    } catch (error) {
      for (const { reject } of askers) reject(error);
    }
    this.#busy = false;
    this.#set();
  }
}
