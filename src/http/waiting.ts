/** Waiting for a condition that another process may bring about. */
import { setTimeout as pause } from 'node:timers/promises';

/** Ask until the answer is not null or `milliseconds` have passed; pauses grow from 5 to 50 ms. */
export async function until<T>(milliseconds: number, ask: () => Promise<T | null>): Promise<T | null> {
  const end = performance.now() + milliseconds;
  for (let wait = 5; ; wait = Math.min(50, wait * 2)) {
    const answer = await ask();
    if (answer !== null || performance.now() >= end) return answer;
    await pause(wait);
  }
}
