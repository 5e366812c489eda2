/** Calls over the network for many things, a few at a time. */

/** How many calls to the cluster run at once: what is left over must not crowd out what users wait for. */
export const AT_ONCE = 4;

/**
 * Do `work` for each item, at most {@link AT_ONCE} at once. One that fails holds up no other.
 * @param onError told of each failure
 * @returns how many failed
 */
export async function eachOf<T>(
  items: readonly T[],
  work: (item: T) => Promise<unknown>,
  onError: (error: unknown) => void,
): Promise<number> {
  let next = 0;
  let failed = 0;
  const worker = async () => {
    while (next < items.length) {
      const item = items[next++]!;
      try {
        await work(item);
      } catch (error) {
        failed++;
        onError(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
  return failed;
}
