import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { recordAudit } from '../../../persistence/audit.ts';
import { verifyChain } from '../../../persistence/audit-seals.ts';
import { Database } from '../../../persistence/database.ts';
import { AuditSealer } from '../../../src/audit-sealer.ts';
import { run } from '../../../src/cli/program.ts';
import { databaseEnvironment } from '../../support/database-environment.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { type HttpWorld, type Json, startHttp } from '../http/support.ts';

let http: HttpWorld;
let other: Database;
const errors: unknown[] = [];
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1 } });
  other = new Database({ ...http.world.database.config, maxConnections: 3 });
});
afterAll(async () => {
  await other?.close();
  await http?.stop();
});

const sealer = (db: Database = http.world.db) => new AuditSealer({ db, onError: (error) => errors.push(error) });
async function sealAll(db: Database = http.world.db): Promise<void> {
  const one = sealer(db);
  while ((await one.seal()) === 0);
  await one.stop();
}
const entry = (object: string) => ({ actor: 'ada', door: 'http', action: 'test.done', object });
const audit = async (query: string) => (await http.get(`/v1/admin/audit?${query}`)).body.entries as Json[];
const wish = { gpu_type: 't4', duration_hours: 0.5, no_persistent_disk: true };

describe('the audit log', () => {
  it('tells who did what to what, from where, by every door', async () => {
    const made = await http.post('/v1/reservations', { ...wish, env_vars: { TOKEN: 'canary-77' } }, { user: 'ada' });
    const { id } = made.body;
    await http.world.reaches(id, 'running');
    await http.post(`/v1/reservations/${id}/events`, { type: 'extend', extension_hours: 0.25 }, { user: 'ada' });
    await http.world.send({ action: 'add_user', reservation_id: id, user_id: 'ada', github_username: 'octocat' });
    await http.world.send({ action: 'cancel', reservation_id: id });
    await http.world.reaches(id, 'cancelled');
    const rows = (await audit(`object=reservation/${id}`)).reverse();
    expect(rows.map(({ actor, door, action }) => [actor, door, action])).toEqual([
      ['ada', 'http', 'reservation.create'],
      ['ada', 'http', 'reservation.extend'],
      ['ada', 'queue:gpu_reservations', 'reservation.add_user'],
      // It came without a name: whoever may write to the queue acts as the owner, and that is said.
      ['ada', 'queue:gpu_reservations', 'reservation.cancel'],
    ]);
    expect(rows[0]).toMatchObject({
      details: { type: 't4', hours: 0.5 },
      address: '127.0.0.1',
      request_id: made.headers['x-request-id'],
      key_prefix: expect.stringMatching(/^gpudev_/),
    });
    expect(rows.map(({ details }) => details.as_owner)).toEqual([undefined, undefined, undefined, true]);
    expect(JSON.stringify(rows)).not.toContain('canary-77');
  });

  it('names the disk of an action by the fields that the action has, whatever else its message holds', async () => {
    const send = (body: object) => http.world.send({ user_id: 'cleo', ...body }, 'disk_operations');
    await send({ action: 'create_disk', disk_name: 'source', target_disk: 'elsewhere', snapshot_id: { a: 1 } });
    const rows = async (name: string) => audit(`object=disk/cleo/${name}`);
    await http.world.until('it is told of', async () => (await rows('source')).length === 1);
    await send({ action: 'clone_disk', source_disk: 'source', target_disk: 'copy-1', disk_name: { toString: 1 } });
    await send({ action: 'clone_disk', source_disk: 'source', target_disk: 'copy-2', disk_name: 'source' });
    await http.world.until('both are told of', async () => [...(await rows('copy-1')), ...(await rows('copy-2'))].length === 2);
    const details = [...(await rows('source')), ...(await rows('copy-1')), ...(await rows('copy-2'))].map((row) => row.details);
    expect(details).toMatchObject([{ disk_name: 'source' }, { target_disk: 'copy-1' }, { target_disk: 'copy-2' }]);
    for (const [own, field] of [
      [details[0], 'target_disk'],
      [details[0], 'snapshot_id'],
      [details[1], 'disk_name'],
      [details[2], 'disk_name'],
    ] as const)
      expect(own).not.toHaveProperty(field);
    expect((await http.world.db.query(`select 1 from dead_letters where body->>'user_id' = 'cleo'`)).rowCount).toBe(0);
  });

  it('says for whom an admin acted', async () => {
    const { body } = await http.post('/v1/reservations', { ...wish, user_id: 'bob' });
    expect(body.user_id).toBe('bob');
    const cancelled = await http.post(`/v1/reservations/${body.id}/events`, { type: 'cancel' });
    expect(cancelled.status).toBe(200);
    const rows = await audit(`object=reservation/${body.id}`);
    expect(rows.map(({ actor, action, details }) => [actor, action, details.for])).toEqual([
      ['operator', 'reservation.cancel', 'bob'],
      ['operator', 'reservation.create', 'bob'],
    ]);
    expect((await http.world.reservation(body.id))?.['failure_reason']).toBe('Cancelled by operator');
  });

  it('holds nothing of what was not done: a row goes with its transaction', async () => {
    const before = (await audit('limit=1'))[0].id;
    const failed = http.world.db.withTransaction(async (tx) => {
      await recordAudit(tx, entry('reservation/never'));
      throw new Error('not done');
    });
    await expect(failed).rejects.toThrow('not done');
    expect((await http.post('/v1/reservations', { ...wish, gpu_type: 'nothing' }, { user: 'ada' })).status).toBe(422);
    expect((await audit('limit=1'))[0].id).toBe(before);
  });

  it('cannot be changed, shortened or emptied', async () => {
    await sealAll();
    for (const statement of [
      `update audit_log set actor = 'eve'`,
      'delete from audit_log',
      'truncate audit_log cascade',
      'update audit_seals set seq = seq + 1',
      'delete from audit_seals',
      'truncate audit_seals',
    ]) {
      await expect(http.world.db.query(statement), statement).rejects.toThrow('the audit log is append-only');
    }
  });

  it('is read page by page, and filtered', async () => {
    await recordAudit(
      http.world.db,
      ['a', 'b', 'c', 'd', 'e'].map((name) => entry(`page/${name}`)),
    );
    const seen: string[] = [];
    for (let cursor = ''; ; ) {
      const { body } = await http.get(`/v1/admin/audit?action=test.done&limit=2${cursor}`);
      seen.push(...body.entries.map((row: Json) => row.object));
      if (body.next_cursor === null) break;
      cursor = `&cursor=${body.next_cursor}`;
    }
    expect(seen).toEqual(['page/e', 'page/d', 'page/c', 'page/b', 'page/a']);
    expect((await audit('actor=nobody')).length).toBe(0);
  });
});

describe('the chain', () => {
  it('takes each row once, though a lower id commits later, and though two seal at once', async () => {
    await sealAll();
    const { sealed: before } = await verifyChain(http.world.db);
    let commit: () => void = () => {};
    const late = new Promise<void>((resolve) => (commit = resolve));
    let written: () => void = () => {};
    const wrote = new Promise<void>((resolve) => (written = resolve));
    const slow = other.withTransaction(async (tx) => {
      await recordAudit(tx, entry('chain/low'));
      written();
      await late;
    });
    await wrote;
    await recordAudit(http.world.db, entry('chain/high'));
    await Promise.all([sealAll(), sealAll(other)]);
    expect(await verifyChain(http.world.db)).toMatchObject({ ok: true, sealed: before + 1, unsealed: 0 });
    commit();
    await slow;
    expect(await verifyChain(http.world.db)).toMatchObject({ ok: true, sealed: before + 1, unsealed: 1 });
    await Promise.all(
      Array.from({ length: 20 }, (_, n) => recordAudit(n % 2 === 0 ? other : http.world.db, entry(`chain/${n}`))),
    );
    await Promise.all([sealAll(), sealAll(other), sealAll(other)]);
    await sealAll();
    expect(await verifyChain(http.world.db)).toMatchObject({ ok: true, sealed: before + 22, unsealed: 0, broken: null });
    const { rows } = await http.world.db.query<Json>(
      `select object from audit_seals s join audit_log l on l.id = s.audit_id where object in ('chain/low', 'chain/high') order by seq`,
    );
    expect(rows.map(({ object }) => object)).toEqual(['chain/high', 'chain/low']);
    expect(errors).toEqual([]);
  });

  it('is kept within a second by a service that runs', async () => {
    const one = sealer();
    one.start();
    await recordAudit(http.world.db, entry('soon/1'));
    const since = performance.now();
    await http.world.until('it is sealed', async () => (await audit('object=soon/1'))[0].seq !== null);
    expect(performance.now() - since).toBeLessThan(3_000);
    await one.stop();
  });
});

describe('gpu-dev admin audit verify', () => {
  let copy: TestDatabase;
  let db: Database;
  beforeAll(async () => {
    copy = await createTestDatabase();
    db = new Database({ ...copy.config, maxConnections: 2 });
    for (let n = 1; n <= 5; n++) await recordAudit(db, entry(`row/${n}`));
    await sealAll(db);
  });
  afterAll(async () => {
    await db.close();
    await copy.drop();
  });

  async function verify(more = ''): Promise<{ exit: number; out: string; err: string }> {
    const said = { out: '', err: '' };
    const exit = await run(`admin audit verify ${more}`.trim().split(' '), {
      environment: databaseEnvironment(copy.config),
      directory: '/nowhere',
      out: { write: (text) => (said.out += text) },
      err: { write: (text) => (said.err += text) },
      interrupted: new AbortController().signal,
    });
    return { exit, ...said };
  }
  /** What somebody with all rights on the database can do. */
  async function tamper(statement: string): Promise<void> {
    const { database: name } = copy.config;
    expect(name).toMatch(/^test_/);
    await db.withTransaction(async (tx) => {
      await tx.query('set local session_replication_role = replica');
      await tx.query(statement);
    });
  }

  it('proves it unbroken, tells of the unsealed tail and the last hash, and knows a hash that was noted', async () => {
    await recordAudit(db, entry('row/6'));
    const { exit, out } = await verify();
    expect([exit, out]).toEqual([
      0,
      expect.stringMatching(/^5 rows, unbroken; 1 wait to be sealed, the oldest for \d+ s\.\nThe last hash is [0-9a-f]{64}; /),
    ]);
    const head = /[0-9a-f]{64}/.exec(out)![0];
    await sealAll(db);
    expect((await verify(`--expect ${head}`)).exit).toBe(0);
    expect((await verify(`--expect ${'ab'.repeat(32)}`)).err).toMatch(/it was written anew/);
  });

  it.each([
    [
      'changed',
      `update audit_log set actor = 'eve' where object = 'row/3'`,
      `update audit_log set actor = 'ada' where object = 'row/3'`,
      /link 3 \(row 3\): the row is not as it was/,
    ],
    [
      'moved in time',
      `update audit_log set at = at + interval '1 microsecond' where object = 'row/2'`,
      `update audit_log set at = at - interval '1 microsecond' where object = 'row/2'`,
      /link 2 /,
    ],
    [
      'given other details',
      `update audit_log set details = '{"a": 1}' where object = 'row/5'`,
      `update audit_log set details = '{}' where object = 'row/5'`,
      /link 5 /,
    ],
    [
      'hidden',
      `update audit_seals set seq = 100 where seq = 4`,
      `update audit_seals set seq = 4 where seq = 100`,
      /the links from 4 to 4 are missing/,
    ],
    [
      'kept from being sealed',
      `delete from audit_seals where seq = 6`,
      `insert into audit_seals select 6, 6, repeat('0', 64)`,
      /1 rows are neither sealed nor waiting/,
    ],
  ])('finds a row that was %s', async (_what, statement, undo, words) => {
    await tamper(statement);
    const { exit, err } = await verify();
    expect([exit, err]).toEqual([1, expect.stringMatching(words)]);
    await tamper(undo);
  });

  it('finds a row that was removed', async () => {
    await tamper(`delete from audit_log where object = 'row/1'`);
    expect((await verify()).err).toMatch(/link 1 \(row 1\): its row is missing/);
  });
});
