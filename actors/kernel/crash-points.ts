/**
 * Named points at which a test may stop the world. Always compiled in; unused they cost one comparison.
 *
 * - turn.locked: actors are locked, their mail is not read. Shows: a lock that outlives its process.
 * - turn.stepped: machines have stepped, nothing is written. Shows: effects that escape before the commit.
 * - turn.beforeCommit: all is written, nothing is committed. Shows: half a turn.
 * - turn.afterCommit: committed, the loop has not heard. Shows: a turn taken twice.
 * - effect.leased: leased, not started. Shows: an effect that is never run.
 * - effect.done: the handler has run, or failed for good, its result is not posted. Shows: an effect whose handler is not idempotent.
 * - effect.afterResult: posted. Shows: a result posted twice.
 * - sweep.fired: deadlines have fired. Shows: a deadline that fires twice or never.
 * - intake.beforeCommit: a queue message is turned into events, not committed. Shows: a message lost or applied twice.
 */
export const CRASH_POINTS = [
  'turn.locked',
  'turn.stepped',
  'turn.beforeCommit',
  'turn.afterCommit',
  'effect.leased',
  'effect.done',
  'effect.afterResult',
  'sweep.fired',
  'intake.beforeCommit',
] as const;
export type CrashPoint = (typeof CRASH_POINTS)[number];

let armed: ((point: CrashPoint) => void | Promise<void>) | null = null;

/** Call `trigger` at every crash point from now on; null disarms. For tests. */
export function armCrashPoints(trigger: ((point: CrashPoint) => void | Promise<void>) | null): void {
  armed = trigger;
}

/** True if a test waits at the crash points: then nothing is sent past them. */
export function areCrashPointsArmed(): boolean {
  return armed !== null;
}

/** Pass a crash point. */
export function crashPoint(point: CrashPoint): void | Promise<void> {
  return armed === null ? undefined : armed(point);
}

// A process under test kills itself at a point named in its environment, at the Nth time it gets there.
const wanted = process.env['GPU_DEV_CRASH_AT'];
if (wanted) {
  const [point, count = '1'] = wanted.split('#');
  let left = Number(count);
  armed = (reached) => {
    if (reached === point && --left === 0) process.kill(process.pid, 'SIGKILL');
  };
}
