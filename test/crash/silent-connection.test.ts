import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Database, isRetryableDatabaseError } from '../../persistence/database.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';

let test: TestDatabase;
let proxy: TcpProxy;
/** Through the network that a test makes bad, and beside it. */
let far: Database;
let near: Database;
beforeEach(async () => {
  test = await createTestDatabase();
  proxy = await TcpProxy.start(test.config.port);
  far = new Database({ ...test.config, port: proxy.port, maxConnections: 3 });
  near = new Database({ ...test.config, maxConnections: 2 });
  await near.query('create table things (id integer primary key, n integer)');
  await near.query('insert into things values (1, 0)');
});
afterEach(async () => {
  proxy.cut();
  await far.close();
  await near.close();
  await proxy.stop();
  await test.drop();
});

async function timeOf(work: Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work;
  return performance.now() - from;
}

describe('a connection on which nobody answers', () => {
  it('is given up in some two seconds', async () => {
    await Promise.all([1, 2, 3].map(() => far.query('select pg_sleep(0.05)')));
    proxy.lose('to client');
    const lost = far.query('update things set n = n + 1 where id = 1').then(
      () => null,
      (error: unknown) => error,
    );
    const took = await timeOf(lost);
    expect(isRetryableDatabaseError(await lost)).toBe(true);
    expect(took).toBeGreaterThan(1_900);
    // Twice as long, for a machine that has other things to do.
    expect(took).toBeLessThan(8_000);
    // Those of the same age are not waited for one by one.
    expect(await timeOf(Promise.all([1, 2, 3].map(() => far.query('select 1'))))).toBeLessThan(2_000);
  });

  it('leaves no lock behind: what it had begun ends with it', async () => {
    const dead = far.withTransaction(async (tx) => {
      await tx.query('update things set n = n + 1 where id = 1');
      proxy.lose('to server');
      await tx.query('select 1');
    });
    await expect(dead).rejects.toThrow(/went dead/);
    const took = await timeOf(near.query('update things set n = n + 1 where id = 1'));
    expect(took).toBeLessThan(1_000);
    expect((await near.query('select n from things')).rows).toEqual([{ n: 1 }]);
  });

  it('is given up by a listener too, and another hears what comes next', async () => {
    const heard: (string | null)[] = [];
    const listener = far.listen(['things'], (channel) => void heard.push(channel));
    await listener.start();
    expect(heard).toEqual([null]);
    proxy.lose('to client');
    await expect.poll(() => heard, { timeout: 9_000 }).toEqual([null, null]);
    await near.query(`select pg_notify('things', '')`);
    await expect.poll(() => heard).toEqual([null, null, 'things']);
    await listener.stop();
  }, 15_000);
});

describe('a connection on which an answer takes its time', () => {
  it('because the statement is slow is waited for', async () => {
    const { rows } = await far.query<{ n: number }>('select n, pg_sleep(2.8) from things');
    expect(rows[0]!.n).toBe(0);
  });

  it('because another holds a lock is waited for', async () => {
    const holding = near.withTransaction(async (tx) => {
      await tx.query('update things set n = 5 where id = 1');
      await pause(2_800);
    });
    await pause(100);
    await far.withTransaction(async (tx) => {
      await tx.query(`set local lock_timeout = '10s'`);
      await tx.query('update things set n = n + 1 where id = 1');
    });
    await holding;
    expect((await near.query('select n from things')).rows).toEqual([{ n: 6 }]);
  });

  it('because this process has little time to read it is waited for', async () => {
    const busy = new Busy();
    try {
      const from = performance.now();
      const { rowCount } = await far.query(`select g, repeat('x', 1000) as x from generate_series(1, 40000) g`);
      expect(rowCount).toBe(40_000);
      // Longer than the silence after which the server is asked.
      expect(performance.now() - from).toBeGreaterThan(2_000);
    } finally {
      busy.end();
    }
  });

  it('because the network held it back for a while is waited for once it comes in again', async () => {
    await far.query('select 1');
    const answer = far.query(`select g, repeat('x', 1000) as x from generate_series(1, 12000) g`);
    answer.catch(() => {});
    proxy.hold();
    const before = proxy.connections;
    // Whoever asks what became of it is held back as well.
    await expect.poll(() => proxy.connections, { timeout: 8_000 }).toBe(before + 1);
    const busy = new Busy();
    proxy.release();
    try {
      expect((await answer).rowCount).toBe(12_000);
    } finally {
      busy.end();
    }
  });
});

/** Do nothing, and let nobody else in this process do anything. */
function sleepHard(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/** Leaves the process a moment between long naps: of a long answer it reads so little at a time that the server must wait for it. */
class Busy {
  readonly #timer = setInterval(() => sleepHard(50), 1);
  end(): void {
    clearInterval(this.#timer);
  }
}
