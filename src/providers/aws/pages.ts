/** Lists of AWS come in pages: all of them, or an error. */

/** One page, and what the next one is asked for with. */
export interface Page<T> {
  items: readonly T[];
  next: string | undefined;
}

/**
 * Page by page.
 * @throws what `read` throws; Error if a page leads back to itself
 */
export async function* pagesOf<T>(read: (from: string | undefined) => Promise<Page<T>>): AsyncGenerator<readonly T[]> {
  let from: string | undefined;
  do {
    const { items, next } = await read(from);
    yield items;
    // Some services end a list with an empty token.
    const following = next === '' ? undefined : next;
    if (following !== undefined && following === from) throw new Error('A list of AWS leads back to the page it came from');
    from = following;
  } while (from !== undefined);
}

/** Everything at once, for lists that are short by nature. */
export async function allOf<T>(read: (from: string | undefined) => Promise<Page<T>>): Promise<T[]> {
  const all: T[] = [];
  for await (const page of pagesOf(read)) all.push(...page);
  return all;
}
