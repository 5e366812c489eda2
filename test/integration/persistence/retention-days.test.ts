import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Database } from '../../../persistence/database.ts';
import * as retention from '../../../persistence/retention.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

let test: TestDatabase;
let db: Database;
beforeAll(async () => {
  test = await createTestDatabase();
  // One connection: the first call decides how a statement's parameters are understood.
  db = new Database({ ...test.config, maxConnections: 1 });
});
afterAll(async () => {
  await db.close();
  await test.drop();
});

const DAYS = 14.5;
/** A little older than is kept, and a little younger; whole days would take both or neither. */
const AGES = [14.6, 14.4];

/** What is left of a table when old rows are pruned, how many it is told that went if not one, and how a row comes to be of an age. */
const PRUNED: Record<string, { left: string; prune: () => Promise<number>; told?: number; insert: string }> = {
  pruneReservations: {
    left: 'select 1 from reservations',
    prune: () => retention.pruneReservations(db, DAYS, 100),
    insert: `insert into reservations (reservation_id, user_id, status, gpu_type, gpu_count, duration_hours, total_hours, created_at,
                                       state_entered_at, name, reservation_ended)
             select 'r' || $1::float8, 'ann', 'expired', 't4', 1, 1, 1, now(), now(), 'n', now() - make_interval(secs => $1::float8 * 86400)`,
  },
  pruneHistory: {
    left: 'select 1 from history',
    prune: () => retention.pruneHistory(db, ['lamp'], DAYS - 1, 100),
    insert: `with born as (
               insert into actors (actor, kind, machine_version, status, snapshot, seq) select 'lamp/' || $1::float8, 'lamp', 1, 'active', '{}', 1)
             insert into history (actor, seq, key, event, outcome, machine_version, sender, at)
             select 'lamp/' || $1::float8, 1, 'k', '{}', 'applied', 1, 'test', now() - make_interval(secs => $1::float8 * 86400)`,
  },
  pruneEffects: {
    left: 'select 1 from effects',
    prune: () => retention.pruneEffects(db, DAYS, 100),
    insert: `insert into effects (effect_id, actor, seq, index, type, lane, replaces, params, status, next_at, created_at, ended_at)
             select 'e' || $1::float8, 'lamp/a', 1, 0, 't', 'l', false, '{}', 'done', now(), now(), now() - make_interval(secs => $1::float8 * 86400)`,
  },
  pruneDeadLetters: {
    left: 'select 1 from dead_letters',
    prune: () => retention.pruneDeadLetters(db, DAYS, 100),
    insert: `insert into dead_letters (source, code, reason, created_at)
             select 'mailbox', 'GPU_MESSAGE_FAILED', 'a bug', now() - make_interval(secs => $1::float8 * 86400)`,
  },
  pruneArchive: {
    left: 'select 1 from pgmq.a_gpu_reservations',
    prune: () => retention.pruneArchive(db, 'gpu_reservations', DAYS, 100),
    insert: `insert into pgmq.a_gpu_reservations (msg_id, read_ct, enqueued_at, archived_at, vt, message)
             select ($1::float8 * 10)::int, 1, now(), now() - make_interval(secs => $1::float8 * 86400), now(), '{}'`,
  },
  'pruneArchive, of tries that failed,': {
    left: 'select 1 from queue_failures',
    prune: () => retention.pruneArchive(db, 'gpu_reservations', DAYS, 100),
    told: 0,
    insert: `insert into queue_failures (queue, msg_id, tries, reason, last_at)
             select 'gpu_reservations', ($1::float8 * 10)::int, 1, 'a bug', now() - make_interval(secs => $1::float8 * 86400)`,
  },
  pruneOperations: {
    left: 'select 1 from operations',
    prune: () => retention.pruneOperations(db, DAYS, 100),
    insert: `insert into operations (operation_id, user_id, action, status, updated_at)
             select 'o' || $1::float8, 'ann', 'create_disk', 'completed', now() - make_interval(secs => $1::float8 * 86400)`,
  },
  pruneAnsweredRequests: {
    left: 'select 1 from answered_requests',
    prune: () => retention.pruneAnsweredRequests(db, DAYS, 100),
    insert: `insert into answered_requests (user_name, key, request, at)
             select 'olga', 'k' || $1::float8, 'POST', now() - make_interval(secs => $1::float8 * 86400)`,
  },
  pruneBuildContexts: {
    left: 'select 1 from build_contexts',
    prune: () => retention.pruneBuildContexts(db, DAYS, 100),
    insert: `insert into build_contexts (hash, owner, archive, created_at)
             select 'h' || $1::float8, 'ann', '\\x00', now() - make_interval(secs => $1::float8 * 86400)`,
  },
  'pruneFindings, of the cluster': {
    left: 'select 1 from reality_findings',
    prune: () => retention.pruneFindings(db, DAYS, 100),
    insert: `insert into reality_findings (kind, name, uid, verdict, why, first_seen, last_seen, closed_at)
             select 'Pod', 'p' || $1::float8, 'u', 'ended', 'a reason', now(), now(), now() - make_interval(secs => $1::float8 * 86400)`,
  },
  'pruneFindings, of comparisons': {
    left: 'select 1 from reality_runs',
    prune: () => retention.pruneFindings(db, DAYS, 100),
    insert: `insert into reality_runs (id, dry_run, asked_by, started_at, ended_at)
             select gen_random_uuid(), false, 'ann', now(), now() - make_interval(secs => $1::float8 * 86400)`,
  },
  'pruneBuildLines, what was written': {
    left: 'select 1 from build_lines',
    prune: () => retention.pruneBuildLines(db, DAYS, 100),
    insert: `insert into build_lines (hash, attempt, at, n, line, kept_at)
             select 'h' || $1::float8, 1, 'then', 0, 'step 1', now() - make_interval(secs => $1::float8 * 86400)`,
  },
  'pruneBuildLines, of tokens': {
    left: 'select 1 from build_tokens',
    prune: () => retention.pruneBuildLines(db, DAYS, 100),
    insert: `insert into build_tokens (token_hash, hash, attempt, expires_at)
             select 't' || $1::float8, 'h', 1, now() - make_interval(secs => $1::float8 * 86400)`,
  },
  pruneSecrets: {
    left: 'select 1 from secrets',
    prune: () => retention.pruneSecrets(db, DAYS, 100),
    insert: `insert into secrets (secret_ref, owner, value, created_at)
             select 's' || $1::float8, 'ann', '{}', now() - make_interval(secs => $1::float8 * 86400)`,
  },
  pruneDisks: {
    left: 'select 1 from disks',
    prune: () => retention.pruneDisks(db, DAYS, 100),
    insert: `insert into disks (disk_id, user_id, disk_name, size_gb, created_at, purged_at)
             select gen_random_uuid(), 'ann', 'd', 1, now(), now() - make_interval(secs => $1::float8 * 86400)`,
  },
};

describe('what is kept for a number of days that is not whole', () => {
  for (const name of Object.keys(PRUNED)) {
    it(`goes when it is older, and stays while it is younger: ${name}`, async () => {
      for (const age of AGES) await db.query(PRUNED[name]!.insert, [age]);
      expect(await PRUNED[name]!.prune()).toBe(PRUNED[name]!.told ?? 1);
      expect((await db.query(PRUNED[name]!.left)).rowCount).toBe(1);
    });
  }

  it('is all that can be removed: no function is left out here', () => {
    const tested = Object.keys(PRUNED).map((name) => name.split(',')[0]);
    expect(Object.keys(retention).filter((name) => !tested.includes(name))).toEqual([]);
  });
});
