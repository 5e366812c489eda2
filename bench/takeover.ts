/**
 * One of two replicas is killed with -9 under load, the one that tracks the cluster. How long until all that it had begun goes on: every effect
 * that it had leased has been run by the other, and the other tracks.
 */
import type { BenchServer } from './support/server.ts';
import { create, type ServiceProcess, Stage } from './support/stage.ts';
import { median, round } from './support/statistics.ts';

export interface TakeoverOptions {
  rounds: number;
  log?: (line: string) => void;
  environment?: NodeJS.ProcessEnv;
}

export interface TakeoverFigures {
  takeoverSeconds: number;
  takeoverSecondsMax: number;
  /** Effects that the dead had leased, and the two parts of each time. */
  takeovers: { effects: number; effectsSeconds: number; trackerSeconds: number }[];
}

/** Requests come at this pace, in milliseconds, and the API of the cluster takes so long to answer, so that there is always work begun. */
const EVERY_MS = 50;
const SLOW_MS = 400;

export async function measureTakeover(server: BenchServer, options: TakeoverOptions): Promise<TakeoverFigures> {
  const stage = await Stage.start(server, { fleet: { h100: 200 } });
  const takeovers: TakeoverFigures['takeovers'] = [];
  let sending = true;
  try {
    const services: ServiceProcess[] = [await stage.service(options.environment)];
    await stage.healthy(services[0]!);
    await stage.simulate('POST', '/faults', { kind: 'latency', ms: SLOW_MS, verb: 'POST', path: '/pods' });
    const load = (async () => {
      while (sending) {
        await stage.send(create());
        await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
      }
    })();
    for (let index = 0; index < options.rounds; index++) {
      services.push(await stage.service(options.environment));
      await stage.healthy(services.at(-1)!);
      // The first of the two holds the tracker's lease: it was there alone.
      const each = await takeOver(stage, services.shift()!);
      takeovers.push(each);
      options.log?.(`${each.effects} effects after ${each.effectsSeconds} s, the tracker after ${each.trackerSeconds} s`);
    }
    sending = false;
    await load;
    const seconds = takeovers.map((each) => Math.max(each.effectsSeconds, each.trackerSeconds));
    return { takeoverSeconds: round(median(seconds), 2), takeoverSecondsMax: round(Math.max(...seconds), 2), takeovers };
  } finally {
    sending = false;
    await stage.stop();
  }
}

const TRACKER = `select holder, token from leases where name = 'tracker' and until > now()`;
/** Pending effects under a lease, by the token of who holds it. */
const LEASED = `
  select effect_id as id, lease_token::text as token from effects where status = 'pending' and lease_until > now()`;
const STILL = `select count(*)::int as n from effects where status = 'pending' and lease_token::text = $1 and effect_id = any($2::text[])`;
const WAIT_FOR = `select count(*)::int as n from effects where status = 'pending' and effect_id = any($1::text[])`;

async function takeOver(stage: Stage, victim: ServiceProcess): Promise<TakeoverFigures['takeovers'][number]> {
  const { rows: before } = await stage.db.query<{ token: number }>(TRACKER);
  let mine: string[] = [];
  // Killed while it has work begun: a moment without would prove nothing.
  await stage.until('both have work', async () => (await leasesByToken(stage)).size >= 2);
  const since = performance.now();
  await victim.program.kill();
  const leases = await leasesByToken(stage);
  const seconds = () => round((performance.now() - since) / 1_000, 2);
  // Whose leases are not renewed any more are the dead one's. Those that end meanwhile were the other's.
  let effectsSeconds = 0;
  let trackerSeconds = 0;
  let dead: string | null = null;
  await stage.until('the other has taken over', async () => {
    if (trackerSeconds === 0) {
      const { rows } = await stage.db.query<{ token: number }>(TRACKER);
      if (rows[0] !== undefined && rows[0].token > (before[0]?.token ?? 0)) trackerSeconds = seconds();
    }
    dead ??= await whoIsDead(stage, leases);
    if (dead !== null && effectsSeconds === 0) {
      mine = leases.get(dead) ?? [];
      if ((await stage.count(WAIT_FOR, [mine])) === 0) effectsSeconds = seconds();
    }
    return trackerSeconds > 0 && effectsSeconds > 0;
  });
  return { effects: mine.length, effectsSeconds, trackerSeconds };
}

async function leasesByToken(stage: Stage): Promise<Map<string, string[]>> {
  const { rows } = await stage.db.query<{ id: string; token: string }>(LEASED);
  const byToken = new Map<string, string[]>();
  for (const { id, token } of rows) byToken.set(token, [...(byToken.get(token) ?? []), id]);
  return byToken;
}

/** The token all of whose leased effects still wait under it while those of the other have ended; null as long as that cannot be told. */
async function whoIsDead(stage: Stage, leases: Map<string, string[]>): Promise<string | null> {
  const waiting: string[] = [];
  for (const [token, ids] of leases) if ((await stage.count(STILL, [token, ids])) === ids.length) waiting.push(token);
  return waiting.length === 1 ? waiting[0]! : null;
}
