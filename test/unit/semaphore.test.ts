import { describe, expect, it } from 'vitest';
import { Abortion } from '../../actors/kernel/abortion.ts';
import { Semaphore } from '../../actors/kernel/semaphore.ts';

/** Work that lasts until it is ended. */
function work(semaphore: Semaphore, began: string[], name: string) {
  const abort = new Abortion();
  let end!: () => void;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const done = semaphore.run(abort, () => {
    began.push(name);
    return ended;
  });
  done.catch(() => {});
  return { abort, end, done };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a semaphore', () => {
  it('lets so many in at a time, the others in their order', async () => {
    const semaphore = new Semaphore(2);
    const began: string[] = [];
    const all = ['a', 'b', 'c', 'd'].map((name) => work(semaphore, began, name));
    await settled();
    expect(began).toEqual(['a', 'b']);
    expect(semaphore.size).toBe(4);
    all[1]!.end();
    await settled();
    expect(began).toEqual(['a', 'b', 'c']);
    for (const { end } of all) end();
    await Promise.all(all.map(({ done }) => done));
    expect(began).toEqual(['a', 'b', 'c', 'd']);
    expect(semaphore.size).toBe(0);
  });

  it('gives on the place of work that failed', async () => {
    const semaphore = new Semaphore(1);
    const failing = semaphore.run(new Abortion(), () => Promise.reject(new Error('no')));
    const next = semaphore.run(new Abortion(), () => Promise.resolve('yes'));
    await expect(failing).rejects.toThrow('no');
    expect(await next).toBe('yes');
    expect(semaphore.size).toBe(0);
  });

  it('loses no place to those who are told to stop while they wait', async () => {
    const semaphore = new Semaphore(1);
    const began: string[] = [];
    const first = work(semaphore, began, 'first');
    const second = work(semaphore, began, 'second');
    const third = work(semaphore, began, 'third');
    second.abort.abort(new Error('stop'));
    await expect(second.done).rejects.toThrow('stop');
    // In the same moment: it is let in and told to stop.
    first.end();
    third.abort.abort(new Error('stop'));
    await settled();
    third.end();
    await Promise.allSettled([first.done, third.done]);
    expect(semaphore.size).toBe(0);
    const last = work(semaphore, began, 'last');
    last.end();
    await last.done;
    expect(began).toContain('last');
    expect(began).not.toContain('second');
  });

  it('tells all who wait to stop, and none who work', async () => {
    const semaphore = new Semaphore(1);
    const began: string[] = [];
    const first = work(semaphore, began, 'first');
    const others = ['second', 'third'].map((name) => work(semaphore, began, name));
    semaphore.abortWaiting(new Error('over'));
    for (const { done } of others) await expect(done).rejects.toThrow('over');
    first.end();
    await first.done;
    expect(began).toEqual(['first']);
  });
});

describe('a handler that is told to stop', () => {
  it('hears it by a signal that it asks for before or after', async () => {
    const before = new Abortion();
    const { signal } = before;
    before.abort(new Error('lease lost'));
    before.abort(new Error('too late'));
    expect(signal.reason).toEqual(new Error('lease lost'));
    expect(before.signal).toBe(signal);
    await expect(before.told).rejects.toThrow('lease lost');
    const after = new Abortion();
    after.abort(new Error('drained'));
    expect(after.signal.aborted).toBe(true);
    expect(after.signal.reason).toEqual(new Error('drained'));
  });
});
