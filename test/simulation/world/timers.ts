/** Pauses of the code under simulation pass in its own time. */
import { syncBuiltinESMExports } from 'node:module';
import timers from 'node:timers/promises';
import type { Scheduler, Session } from './scheduler.ts';

let scheduler: Scheduler | null = null;
let session: Session | null = null;

/** From now on a pause takes the time of this scheduler. */
export function setVirtualClock(given: Scheduler, owner: Session): void {
  scheduler = given;
  session = owner;
}

const pause = (milliseconds = 0): Promise<void> => scheduler!.sleep(milliseconds, session!);
timers.setTimeout = pause as unknown as typeof timers.setTimeout;
syncBuiltinESMExports();
