import { expect, it } from 'vitest';
import { verifyActor } from '../../actors/kernel/fold.ts';
import type { TakeoverPolicy } from '../../actors/kernel/dispatcher.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { openLeanScene } from './lean/opened.ts';
import type { LeanScene } from './lean/scene.ts';
import type { Program } from './support/process.ts';

let scene: LeanScene;
openLeanScene('deadly', (opened) => {
  scene = opened;
});

const [BOMB, TAR] = ['courier/bomb', 'courier/tar'];
/** As the service has it, twenty times faster. */
const TAKEOVERS: TakeoverPolicy = { firstPauseMs: 50, longestPauseMs: 500, most: 5 };
/** Who says nothing for so long is frozen, and is killed by who looks after it. */
const SILENT_MS = 1_500;

/** Two workers; one that has ended is started again, one that is silent is killed. */
class Keeper {
  deaths = 0;
  /** Those of them that were killed for their silence. */
  frozen = 0;
  #goOn = true;
  readonly #places: Promise<void>[];

  constructor() {
    this.#places = [0, 1].map(() => this.#keep());
  }

  async stop(): Promise<void> {
    this.#goOn = false;
    await Promise.all(this.#places);
  }

  async #keep(): Promise<void> {
    while (this.#goOn) {
      const environment = { LEASE_SECONDS: '0.5', POLL_MS: '50', TELL_MS: '50', TAKEOVERS: JSON.stringify(TAKEOVERS) };
      const program = scene.worker({ ...environment, DEADLY: BOMB, FREEZING: TAR });
      await program.ready();
      await this.#watch(program);
      if (this.#goOn) this.deaths++;
    }
  }

  /** Wait for its end. */
  async #watch(program: Program): Promise<void> {
    let heard = Date.now();
    let isAlive = true;
    program.onLine(() => {
      heard = Date.now();
    });
    const watching = setInterval(() => {
      if (!this.#goOn || Date.now() - heard > SILENT_MS) {
        if (this.#goOn && isAlive) this.frozen++;
        isAlive = false;
        program.signal('SIGKILL');
      }
    }, 20);
    await program.exited();
    clearInterval(watching);
  }
}

it('parcels that kill or freeze everybody who carries them are given up, and all others are delivered', {
  timeout: 60_000,
}, async () => {
  const hired = (actor: string): Message => ({
    actor,
    key: 'hired',
    event: { type: 'courier.hired', parcels: 2, restMs: 10 } as { type: string },
    sender: 'test',
  });
  // All in one: the first batch leases the deadly ones with the others.
  const others = Array.from({ length: 60 }, (_, n) => `courier/${n}`);
  await scene.post([...others.slice(0, 30), BOMB, TAR, ...others.slice(30)].map(hired));
  const began = Date.now();
  const keeper = new Keeper();
  const home = `select count(*)::int as n from actors where kind = 'courier' and state = 'home'`;
  let othersMs = 0;
  try {
    await scene.until('the others are home', async () => {
      return (await scene.db.query<{ n: number }>(home)).rows[0]!.n === others.length;
    });
    othersMs = Date.now() - began;
    await scene.until('the deadly ones are lost', async () => (await scene.count('couriers at work')) === 0);
    await scene.until('the tally is complete', async () => (await scene.count('mail')) + (await scene.count('effects')) === 0);
  } finally {
    await keeper.stop();
  }
  console.log(`deadly effects: ${keeper.deaths} deaths, ${keeper.frozen} of them frozen; the others home after ${othersMs} ms`);

  const reason = `Every process that ran it died or froze, ${TAKEOVERS.most + 1} times: it is not run again`;
  const { rows: letters } = await scene.db.query('select source, actor, key, code, reason from dead_letters order by actor');
  expect(letters).toEqual(
    [BOMB, TAR].map((actor) => ({ source: 'effect', actor, key: `${actor}:1:0`, code: 'GPU_EFFECT_DEADLY', reason })),
  );
  const { rows: failed } = await scene.db.query(
    `select actor, status, attempts from effects where status <> 'done' order by actor`,
  );
  expect(failed).toEqual([BOMB, TAR].map((actor) => ({ actor, status: 'failed', attempts: 1 })));
  const { rows: lost } = await scene.db.query(`select actor from actors where state = 'lost' order by actor`);
  expect(lost).toEqual([{ actor: BOMB }, { actor: TAR }]);
  for (const actor of [...others, BOMB, TAR]) {
    expect(await verifyActor(scene.db, scene.door.kinds, actor), actor).toMatchObject({ ok: true });
  }
  const { rows: tally } = await scene.db.query(
    `select snapshot #>> '{context,reports}' as n from actors where actor = 'tally/all'`,
  );
  expect(tally).toEqual([{ n: String(others.length + 2) }]);
  // Each run takes a process along, and both may run in the same.
  expect(keeper.deaths).toBeGreaterThanOrEqual(TAKEOVERS.most + 1);
  expect(keeper.deaths - keeper.frozen).toBeLessThanOrEqual(TAKEOVERS.most + 1);
  expect(keeper.frozen).toBeGreaterThan(0);
});
