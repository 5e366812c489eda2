/** Wait for a condition, never for time. */
import { PATIENCE_MS } from '../../../support/patience.ts';

/** @returns the first result of `look` that is neither false, null nor undefined @throws Error with `what` if none comes in time */
export async function until<T>(what: string, look: () => T | Promise<T>, timeoutMs = PATIENCE_MS): Promise<NonNullable<T>> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== false && found !== null && found !== undefined) return found as NonNullable<T>;
    if (Date.now() > end) throw new Error(`waited in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
