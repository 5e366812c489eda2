/**
 * How long a test waits for what must come, in milliseconds: long, since the machine may be busy, and nobody waits for it who gets what they
 * wait for. Where it matters that something comes soon, the test says how soon itself.
 */
export const PATIENCE_MS = 60_000;
