// The time, for what counts down: one clock for all of the page.
import { createStore, usePart, useStore } from './store.ts';

const now = createStore(Date.now());
setInterval(() => {
  if (!document.hidden) now.set(Date.now());
}, 1_000);

/** The time in steps of so many milliseconds: what shows hours need not be drawn each second. */
export const useNowBy = (step: number): number => usePart(now, (ms) => Math.floor(ms / step) * step);

export const useNow = (): number => useStore(now);
