import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ClusterDoubt, type ClusterFacts, ClusterGuard } from '../../../actors/reality/cluster-guard.ts';
import { acceptCluster, presentCluster } from '../../../persistence/cluster-identity.ts';
import { Database } from '../../../persistence/database.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

const OURS: ClusterFacts = { namespace: 'gpu-dev', namespaceUid: 'ns-1', systemUid: 'sys-1', server: 'https://one' };

let test: TestDatabase;
let db: Database;
beforeEach(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 4 });
});
afterEach(async () => {
  await db.close();
  await test.drop();
});

/** A cluster that says what the test lets it say, when the test lets it. */
class Voice {
  says: ClusterFacts | Error = OURS;
  asked = 0;
  readonly #waiting: (() => void)[] = [];
  #open = true;

  readonly read = async (): Promise<ClusterFacts> => {
    this.asked += 1;
    if (!this.#open) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.says instanceof Error) throw this.says;
    return this.says;
  };
  hold(): void {
    this.#open = false;
  }
  release(): void {
    this.#open = true;
    for (const go of this.#waiting.splice(0)) go();
  }
}

const now = () => performance.now();

describe('the cluster that this database commands', () => {
  it('is the first that it meets, and no other one after that, whichever process meets it', async () => {
    const ours = new Voice();
    await new ClusterGuard({ db, read: ours.read }).confirm();
    expect(await presentCluster(db)).toMatchObject({ namespaceUid: 'ns-1', namespace: 'gpu-dev', systemUid: 'sys-1' });
    const other = new Voice();
    other.says = { ...OURS, namespaceUid: 'ns-2', systemUid: 'sys-2', server: 'https://two' };
    const guard = new ClusterGuard({ db, read: other.read });
    await expect(guard.confirm()).rejects.toThrow(ClusterDoubt);
    expect(guard.doubt).toMatch(/^This database belongs to another cluster or namespace: it commands .*ns-1.*sys-1.*one/);
    expect(guard.doubt).toMatch(/what answers is .*ns-2.*sys-2.*two/);
    expect(guard.doubt).toContain('gpu-dev admin accept-cluster --namespace-uid ns-2');
    expect(await presentCluster(db)).toMatchObject({ namespaceUid: 'ns-1' });
  });

  it('is one, if two that start at once meet two', async () => {
    const guards = ['a', 'b', 'c', 'd'].map((name) => {
      const voice = new Voice();
      voice.says = { ...OURS, namespaceUid: name, systemUid: name };
      return new ClusterGuard({ db, read: voice.read });
    });
    const ends = await Promise.allSettled(guards.map((guard) => guard.confirm()));
    expect(ends.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect((await db.query('select 1 from cluster_identity')).rowCount).toBe(1);
  });

  it('is another one if its namespace was made anew, which is said as it is; a missing namespace is no other one', async () => {
    const voice = new Voice();
    const guard = new ClusterGuard({ db, read: voice.read });
    await guard.confirm();
    voice.says = { ...OURS, namespaceUid: null };
    await expect(guard.confirm(now())).rejects.toThrow(/^There is no namespace gpu-dev at/);
    voice.says = { ...OURS, namespaceUid: 'ns-2' };
    await expect(guard.confirm(now())).rejects.toThrow(/^The namespace of the dev servers was deleted and made anew/);
    voice.says = OURS;
    await guard.confirm(now());
    expect(guard.doubt).toBeNull();
  });

  it('has the uid of kube-system once it may be read, and is another one if that differs', async () => {
    const voice = new Voice();
    voice.says = { ...OURS, systemUid: null };
    await new ClusterGuard({ db, read: voice.read }).confirm();
    expect((await presentCluster(db))?.systemUid).toBeNull();
    voice.says = OURS;
    await new ClusterGuard({ db, read: voice.read }).confirm();
    expect((await presentCluster(db))?.systemUid).toBe('sys-1');
    voice.says = { ...OURS, systemUid: 'sys-2' };
    await expect(new ClusterGuard({ db, read: voice.read }).confirm()).rejects.toThrow(ClusterDoubt);
  });

  it('is the one that an operator accepts, from the next question on and without a new start; the one before stays on record', async () => {
    const voice = new Voice();
    const told: (string | null)[] = [];
    const guard = new ClusterGuard({ db, read: voice.read, onDoubt: (doubt) => told.push(doubt) });
    await guard.confirm();
    voice.says = { ...OURS, namespaceUid: 'ns-2' };
    await expect(guard.confirm(now())).rejects.toThrow();
    await expect(guard.confirm()).rejects.toThrow();
    expect(told).toHaveLength(1);
    expect(await acceptCluster(db, 'ns-2', { by: 'ada', reason: 'moved' })).toMatchObject({ namespaceUid: 'ns-1' });
    expect(await acceptCluster(db, 'ns-2', { by: 'ada', reason: 'moved' })).toBeNull();
    await guard.confirm();
    expect(told).toEqual([expect.any(String), null]);
    const { rows } = await db.query('select namespace_uid, namespace, accepted_by, reason from cluster_identity order by id');
    expect(rows).toEqual([
      { namespace_uid: 'ns-1', namespace: 'gpu-dev', accepted_by: null, reason: null },
      { namespace_uid: 'ns-2', namespace: 'gpu-dev', accepted_by: 'ada', reason: 'moved' },
    ]);
  });
});

describe('a question to the cluster', () => {
  it('serves all who ask while its answer is young; one that must not be older than now is asked anew, once for all', async () => {
    const voice = new Voice();
    const guard = new ClusterGuard({ db, read: voice.read });
    await Promise.all([guard.confirm(), guard.confirm(), guard.confirm()]);
    await guard.confirm();
    expect(voice.asked).toBe(1);
    voice.hold();
    const first = guard.confirm(now());
    await expect.poll(() => voice.asked).toBe(2);
    // These come after the second question was sent: its answer may be of before them.
    const later = Promise.all(Array.from({ length: 20 }, () => guard.confirm(now())));
    voice.release();
    await Promise.all([first, later]);
    expect(voice.asked).toBe(3);
  });

  it('that finds no answer leaves it unknown: nobody goes on, and the next one asks again', async () => {
    const voice = new Voice();
    voice.says = new Error('no answer');
    const guard = new ClusterGuard({ db, read: voice.read });
    await expect(Promise.all([guard.confirm(), guard.confirm()])).rejects.toThrow('no answer');
    expect(guard.doubt).toBeNull();
    voice.says = OURS;
    await guard.confirm();
    voice.says = new Error('no answer');
    await guard.confirm();
    guard.forget();
    await expect(guard.confirm()).rejects.toThrow('no answer');
  });

  it('that was under way when the connection broke answers for nothing after it', async () => {
    const voice = new Voice();
    const guard = new ClusterGuard({ db, read: voice.read });
    voice.hold();
    const first = guard.confirm();
    await expect.poll(() => voice.asked).toBe(1);
    guard.forget();
    voice.release();
    await first;
    await guard.confirm();
    expect(voice.asked).toBe(2);
  });
});
