/** Whole lists of the cluster, page by page. */
import { attempt, hasStatus } from './errors.ts';

export const PAGE = 500;
/** How often a list is begun anew because its pages had become too old to go on. */
const TRIES = 3;

export interface ListPage<T> {
  metadata?: { resourceVersion?: string; _continue?: string; continue?: string };
  items?: T[] | null;
}

/**
 * Everything that the list has: complete, or it throws.
 * @param list one page, from `next` on
 * @param trim what is kept of an item: whole objects are many times as large
 */
export async function wholeList<T, Kept>(
  doing: string,
  list: (query: { limit: number; _continue?: string }) => Promise<ListPage<T>>,
  trim: (item: T) => Kept[],
): Promise<Kept[]> {
  for (let tries = 1; ; tries++) {
    try {
      const found: Kept[] = [];
      let next: string | undefined;
      do {
        const page = await attempt(doing, () => list({ limit: PAGE, ...(next === undefined ? {} : { _continue: next }) }));
        if (page.metadata?.resourceVersion === undefined) throw new Error(`${doing}: the answer is no list`);
        for (const item of page.items ?? []) found.push(...trim(item));
        next = page.metadata._continue || page.metadata.continue || undefined;
      } while (next !== undefined);
      return found;
    } catch (error) {
      if (!hasStatus(error, 410) || tries >= TRIES) throw error;
    }
  }
}
