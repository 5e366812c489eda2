/** Where lean workers run: a database with a table for their deliveries, and the promises that must hold when all is done. */
import { fileURLToPath } from 'node:url';
import { setTimeout as pause } from 'node:timers/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { verifyActor } from '../../../actors/kernel/fold.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { Database, type DatabaseSettings } from '../../../persistence/database.ts';
import type { Message } from '../../../persistence/mailbox.ts';
import { Program } from '../support/process.ts';
import { courierKind, tallyKind } from './courier.ts';
import { spinnerKind } from './spinner.ts';
import { databaseEnvironment } from '../../support/database-environment.ts';
import { PATIENCE_MS } from '../../support/patience.ts';

const WORKER = fileURLToPath(new URL('./worker.ts', import.meta.url));

export class LeanScene {
  readonly db: Database;
  /** A kernel that is never started: it only posts. */
  readonly door: Kernel;
  /** How often each message was sent, by actor and key. */
  readonly sent = new Map<string, number>();
  readonly #folder: string;
  readonly #programs: Program[] = [];

  /** @param folder for the cache of compiled code. */
  constructor(settings: DatabaseSettings, folder: string) {
    this.#folder = folder;
    this.db = new Database({ ...settings, maxConnections: 4, applicationName: 'gpu-dev test' });
    this.door = new Kernel({ db: this.db, kinds: [courierKind(async () => null), tallyKind(), spinnerKind()] });
  }

  async open(): Promise<void> {
    await this.db.query(
      `create table deliveries (effect_id text not null, run text not null, began_at timestamptz not null default clock_timestamp(), ended_at timestamptz)`,
    );
    // The service's connections join no tables by hashing: after a long fire, looking for each of them without it takes minutes.
    await this.db.query('create index on deliveries (effect_id, run)');
    await this.post([{ actor: 'tally/all', key: 'opened', event: { type: 'tally.opened' }, sender: 'test' }]);
  }

  /** Start a worker, without waiting for it. `command` goes before its script. `at` is where it finds the database. */
  worker(extra: NodeJS.ProcessEnv = {}, command: readonly string[] = [], at: { port?: number } = {}): Program {
    const program = Program.spawn([...command, WORKER], {
      PATH: process.env['PATH'],
      ...databaseEnvironment({ ...this.db.settings, ...at }),
      NODE_COMPILE_CACHE: join(this.#folder, 'compiled'),
      ...extra,
    });
    this.#programs.push(program);
    return program;
  }

  /** Post as a door of another process does: workers hear of it by a notification. */
  async post(messages: readonly Message[]): Promise<void> {
    for (const { actor, key } of messages) this.sent.set(`${actor} ${key}`, (this.sent.get(`${actor} ${key}`) ?? 0) + 1);
    await this.door.post(messages);
    this.door.wakeOthers();
  }

  /** Wait until `check` gives something other than null or false, whatever the database does meanwhile. */
  async until<T>(what: string, check: () => Promise<T | null | false>, ms = PATIENCE_MS): Promise<T> {
    const end = Date.now() + ms;
    let problem: unknown = null;
    for (;;) {
      try {
        const found = await check();
        if (found !== null && found !== false) return found;
        problem = null;
      } catch (error) {
        problem = error;
      }
      if (Date.now() > end) {
        throw new Error(
          `Waited ${ms} ms in vain until ${what}. ${problem === null ? '' : String(problem)}\n${await this.#report()}`,
        );
      }
      await pause(20);
    }
  }

  async count(text: 'mail' | 'effects' | 'deadlines' | 'couriers at work'): Promise<number> {
    const { rows } = await this.db.query<{ n: number }>(COUNTS[text]);
    return rows[0]!.n;
  }

  /**
   * Every message was processed exactly once, every courier came home and reported once, every parcel was delivered, histories are without
   * gaps and fold, and nothing is left.
   * @param spinners how many spinners there are, which do not report.
   */
  async expectClean(spinners = 0): Promise<void> {
    for (const what of ['mail', 'effects', 'deadlines', 'couriers at work'] as const)
      expect(await this.count(what), what).toBe(0);
    const { rows: actors } = await this.db.query<{ actor: string }>('select actor from actors order by actor');
    // A spinner's history is long, and each is like the others.
    const folded = actors.filter(({ actor }) => !/^spinner\/.*[^7]$/.test(actor));
    const fold = async ({ actor }: { actor: string }) =>
      expect(await verifyActor(this.db, this.door.kinds, actor), actor).toMatchObject({ ok: true });
    for (let index = 0; index < folded.length; index += 8) await Promise.all(folded.slice(index, index + 8).map(fold));
    const { rows } = await this.db.query<{ what: string; n: number }>(LEFT);
    expect(rows.filter((row) => row.n > 0)).toEqual([]);
    const { rows: processed } = await this.db.query<{ id: string }>(
      `select actor || ' ' || key as id from history where sender = 'test'`,
    );
    expect(processed.map((row) => row.id).sort()).toEqual([...this.sent.keys()].sort());
    const { rows: tally } = await this.db.query<{ reports: number }>(
      `select (snapshot #>> '{context,reports}')::int as reports from actors where actor = 'tally/all'`,
    );
    expect(tally).toEqual([{ reports: actors.length - 1 - spinners }]);
  }

  /** What is open, and what the last programs said. */
  async #report(): Promise<string> {
    const { rows } = await this.db.query<{ open: string }>(OPEN).catch(() => ({ rows: [] }));
    const logs = this.#programs.map((program) => program.log.slice(-500)).filter((log) => log !== '');
    return [...rows.map((row) => row.open), ...logs.slice(-3)].join('\n--\n');
  }

  async stop(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.kill()));
    await this.db.close();
  }
}

const COUNTS = {
  mail: 'select count(*)::int as n from mailbox',
  effects: `select count(*)::int as n from effects where status = 'pending'`,
  deadlines: 'select count(*)::int as n from deadlines',
  'couriers at work': `select count(*)::int as n from actors where kind = 'courier' and status <> 'done'`,
};

const OPEN = `
  (select 'effect ' || to_jsonb(e)::text as open from effects e where status = 'pending' order by next_at limit 3)
  union all (select 'mail ' || to_jsonb(m)::text from mailbox m order by id limit 3)
  union all (select 'deadline ' || to_jsonb(d)::text from deadlines d order by due_at limit 3)
  union all (select 'actor ' || to_jsonb(a)::text from actors a where status = 'active' and kind = 'courier' order by updated_at limit 3)
  union all select 'now ' || now()`;

const LEFT = `
  select 'dead letters' as what, count(*)::int as n from dead_letters
  union all select 'quarantined', count(*)::int from actors where quarantined_at is not null
  union all select 'gaps', count(*)::int from (select max(seq) <> count(*) as gap from history group by actor) g where gap
  union all select 'parcels of those who went home that were not all carried', count(*)::int from actors
     where kind = 'courier' and state = 'home' and snapshot #>> '{context,carried}' <> snapshot #>> '{context,parcels}'
  union all select 'nudges not felt', count(*)::int from actors a
     where kind = 'courier' and (snapshot #>> '{context,nudges}')::int <>
       (select count(*) from history h where h.actor = a.actor and h.event ->> 'type' = 'nudge' and h.outcome = 'applied')
  union all select 'effects without a whole delivery', count(*)::int from effects e
     where e.status = 'done' and not exists (select 1 from deliveries d where d.effect_id = e.effect_id and d.ended_at is not null)
  union all select 'effects never asked for', count(*)::int from deliveries d where not exists (select 1 from effects e where e.effect_id = d.effect_id)
  union all select 'results of no delivery', count(*)::int from history h
     where h.sender = 'effect' and not exists (select 1 from deliveries d
        where d.ended_at is not null and d.effect_id = substr(h.key, length('effect:') + 1) and d.run = h.event ->> 'by')
  union all select 'rests that were cut short', count(*)::int from history h
     join history earlier on earlier.actor = h.actor and earlier.seq < h.seq and earlier.to_state = 'resting' and earlier.from_state <> 'resting'
     where h.event ->> 'type' = 'deadline.rest' and h.outcome = 'applied'
       and h.at < earlier.at + (select make_interval(secs => (snapshot #>> '{context,restMs}')::int / 1000.0) from actors a where a.actor = h.actor)`;
