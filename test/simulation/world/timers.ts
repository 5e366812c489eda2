/** Pauses, clocks and random ids of the code under simulation come from the simulation too: one seed, one history. */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import timers from 'node:timers/promises';
import type { Random } from './random.ts';
import type { Scheduler, Session } from './scheduler.ts';

let scheduler: Scheduler | null = null;
let session: Session | null = null;
let random: Random | null = null;

/** From now on time and ids are those of this simulation. */
export function setVirtualClock(given: Scheduler, owner: Session, ids: Random): void {
  scheduler = given;
  session = owner;
  random = ids;
}

const realNow = Date.now;
Date.now = () => scheduler?.now ?? realNow();

function fill<T extends ArrayBufferView>(view: T): T {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  for (let i = 0; i < bytes.length; i++) bytes[i] = random!.int(256);
  return view;
}

timers.setTimeout = ((milliseconds = 0) => scheduler!.sleep(milliseconds, session!)) as unknown as typeof timers.setTimeout;
crypto.randomUUID = () => random!.uuid() as ReturnType<typeof crypto.randomUUID>;
crypto.randomBytes = ((size: number) => fill(Buffer.alloc(size))) as unknown as typeof crypto.randomBytes;
syncBuiltinESMExports();
globalThis.crypto.getRandomValues = ((view: ArrayBufferView) => fill(view)) as typeof globalThis.crypto.getRandomValues;
