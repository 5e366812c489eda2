import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { TakeoverPolicy } from '../../actors/kernel/dispatcher.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { openLeanScene } from './lean/opened.ts';
import type { LeanScene } from './lean/scene.ts';
import { fireMs, Killer } from './support/killer.ts';

const BURN_MS = fireMs(8_000);
/** Faster than in the service, as leases, kills and starts are. The number is the service's: nobody may be given up here. */
const TAKEOVERS: TakeoverPolicy = { firstPauseMs: 150, longestPauseMs: 1_000, most: 16 };
/** Couriers at work at once. */
const AT_WORK = 60;

let scene: LeanScene;
openLeanScene('lean', (opened) => {
  scene = opened;
});

/** What becomes of a new courier: hired, nudged up to three times, perhaps recalled; a tenth of it sent twice, a tenth out of order. */
function planOf(name: string): Message[] {
  const actor = `courier/${name}`;
  const message = (key: string, event: { type: string; [key: string]: unknown }): Message => ({
    actor,
    key,
    event,
    sender: 'test',
  });
  const parcels = 1 + Math.floor(Math.random() * 5);
  const plan = [message('hired', { type: 'courier.hired', parcels, restMs: Math.floor(Math.random() * 400) })];
  for (let nudge = Math.floor(Math.random() * 4); nudge > 0; nudge--) plan.push(message(`nudge-${nudge}`, { type: 'nudge' }));
  if (Math.random() < 0.2) plan.push(message('recall', { type: 'recall' }));
  for (const sent of [...plan]) if (Math.random() < 0.1) plan.splice(1 + Math.floor(Math.random() * plan.length), 0, sent);
  if (Math.random() < 0.1) plan.reverse();
  return plan;
}

it(
  'a lean kernel killed several times a second and frozen beyond its leases loses nothing and does nothing twice',
  async () => {
    const killer = new Killer({
      start: () => scene.worker({ LEASE_SECONDS: '0.5', TAKEOVERS: JSON.stringify(TAKEOVERS) }),
      programs: 2,
      everyMs: [50, 300],
      freeze: { part: 0.1, ms: [600, 1_500] },
      spareLast: false,
    });
    await killer.start();
    const end = Date.now() + BURN_MS;
    const late: Promise<void>[] = [];
    let hired = 0;
    while (Date.now() < end) {
      const room = AT_WORK - (await scene.count('couriers at work'));
      for (let n = 0; n < Math.min(room, 20); n++) {
        const [first, ...rest] = planOf(String(hired++));
        await scene.post([first!]);
        // What follows comes one by one, while the first is being worked at.
        late.push(
          (async () => {
            for (const message of rest) {
              await pause(Math.random() * 150);
              await scene.post([message]);
            }
          })(),
        );
      }
      await pause(100);
    }
    await Promise.all(late);
    await scene.until('all are home', async () => (await scene.count('couriers at work')) === 0, 30_000);
    await killer.stop();
    await scene.until('the tally is complete', async () => (await scene.count('mail')) + (await scene.count('effects')) === 0);
    await scene.expectClean();
    expect(killer.unexpected).toEqual([]);
    // No handler failed, so each effect was ended by one attempt: a late one, whose lease was lost, must not end it again.
    expect((await scene.db.query('select effect_id from effects where attempts <> 1')).rows).toEqual([]);

    const { rows } = await scene.db.query<{ events: number; deliveries: number; effects: number }>(
      `select (select count(*) from history)::int as events, (select count(*) from deliveries)::int as deliveries,
            (select count(*) from effects)::int as effects`,
    );
    // Its effect had ended already when it was through.
    const { rows: fenced } = await scene.db.query<{ n: number }>(
      'select count(*)::int as n from deliveries d join effects e using (effect_id) where d.ended_at > e.ended_at',
    );
    const sent = [...scene.sent.values()].reduce((sum, times) => sum + times, 0);
    const { kills, freezes } = killer;
    const { events, deliveries, effects } = rows[0]!;
    console.log(
      `lean fire: ${kills} kills, ${freezes} freezes, ${hired} couriers, ${events} events, ${sent - scene.sent.size} duplicates dropped, ` +
        `${deliveries} deliveries of ${effects} effects, ${fenced[0]!.n} late results fenced off`,
    );
    expect(kills).toBeGreaterThan(BURN_MS / 600);
    expect(hired).toBeGreaterThan(BURN_MS / 400);
    expect(sent).toBeGreaterThan(scene.sent.size);
    expect(deliveries).toBeGreaterThan(effects);
  },
  // What a long fire has left behind takes its time to be looked at.
  BURN_MS * 1.3 + 60_000,
);
