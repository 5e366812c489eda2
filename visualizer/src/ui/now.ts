// The time, for what counts down: one clock for all of the page.
import { createStore, useStore } from './store.ts';

const now = createStore(Date.now());
setInterval(() => {
  if (!document.hidden) now.set(Date.now());
}, 1_000);

export const useNow = (): number => useStore(now);
