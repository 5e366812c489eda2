import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { HeapKeeper } from '../../src/heap-keeper.ts';

const never = (error: unknown) => {
  throw error;
};

/** A keeper whose collections are counted, after the first look that every measurement begins with. */
function keeper(settings: { quietBelow: number; worth: number }) {
  const counted = { collections: 0 };
  const kept = new HeapKeeper({ ...settings, collect: () => void counted.collections++, onError: never });
  kept.look();
  return { counted, kept };
}

it('collects once in a quiet time, and again only when memory has grown', async () => {
  const { counted, kept } = keeper({ quietBelow: 1_000, worth: 64e6 });
  expect(counted.collections).toBe(0);
  kept.look();
  expect(counted.collections).toBe(1);
  // What is left after the collection is seen, and nothing has come since.
  kept.look();
  kept.look();
  expect(counted.collections).toBe(1);
  const grown = Buffer.alloc(128e6, 1);
  kept.look();
  expect(counted.collections).toBe(2);
  expect(grown.length).toBe(128e6);
});

it('leaves a process alone that is busy', async () => {
  const { counted, kept } = keeper({ quietBelow: 0.1, worth: 1 });
  for (const end = performance.now() + 100; performance.now() < end; );
  kept.look();
  expect(counted.collections).toBe(0);
  // Quiet again: most of this time nothing happens. Another try, should the runner itself be busy.
  await expect
    .poll(
      async () => {
        kept.look();
        await pause(200);
        kept.look();
        return counted.collections;
      },
      { timeout: 20_000 },
    )
    .toBeGreaterThan(0);
});

it('really collects: what nobody holds is let go', async () => {
  const kept = new HeapKeeper({ quietBelow: 1_000, worth: 1, onError: never });
  kept.look();
  const lost = new WeakRef({ large: new Array(1_000).fill('x') });
  await pause(0); // a WeakRef holds its target until the present turn of the event loop ends
  kept.look();
  expect(lost.deref()).toBeUndefined();
});
