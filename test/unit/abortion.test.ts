import { expect, it } from 'vitest';
import { Abortion } from '../../actors/kernel/abortion.ts';

it('a handler that is told to stop hears it by a signal that it asks for before or after, with the first reason', async () => {
  const before = new Abortion();
  const { signal } = before;
  expect(signal.aborted).toBe(false);
  before.abort(new Error('the lease was lost'));
  before.abort(new Error('too late'));
  expect(signal.reason).toEqual(new Error('the lease was lost'));
  expect(before.signal).toBe(signal);
  await expect(before.told).rejects.toThrow('the lease was lost');

  const after = new Abortion();
  after.abort(new Error('drained'));
  expect(after.signal.aborted).toBe(true);
  expect(after.signal.reason).toEqual(new Error('drained'));
});
