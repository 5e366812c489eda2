/** How a handler or a port says what a failure means: the retry decision is in the type. */

/** Trying again cannot help. The message is for the user whose reservation it ends. */
export class TerminalError extends Error {
  override readonly name = 'TerminalError';
}

/** The dev server is gone or going: nothing can be done to it any more. */
export class ServerGoneError extends TerminalError {
  constructor() {
    super('This server no longer exists');
  }
}

/** Not ready yet, and no failure: look again after `milliseconds`, without counting an attempt. */
export class NotYet extends Error {
  override readonly name = 'NotYet';
  readonly milliseconds: number;
  constructor(milliseconds: number, what: string) {
    super(what);
    this.milliseconds = milliseconds;
  }
}
