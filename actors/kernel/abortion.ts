/** Tells a handler to stop. Its signal is made when it is asked for: most handlers end before anybody would want them to stop. */
export class Abortion {
  /** Rejects with the reason when it is told. */
  readonly told: Promise<never>;
  #tell!: (reason: unknown) => void;
  #controller: AbortController | null = null;
  #reason: { reason: unknown } | null = null;

  constructor() {
    this.told = new Promise((_resolve, reject) => {
      this.#tell = reject;
    });
    this.told.catch(() => {}); // whoever waits for the handler hears of it
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.#reason !== null) this.#controller.abort(this.#reason.reason);
    }
    return this.#controller.signal;
  }

  /** The first reason counts. */
  abort(reason: unknown): void {
    if (this.#reason !== null) return;
    this.#reason = { reason };
    this.#controller?.abort(reason);
    this.#tell(reason);
  }
}
