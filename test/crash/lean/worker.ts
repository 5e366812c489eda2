/**
 * A kernel and nothing else, as a process that tests may kill: it starts in a tenth of a second. It runs couriers, tallies and spinners over
 * the database of its environment. Each delivery is a row outside the kernel's tables, written when it begins and again when it ends.
 *
 * A line on its standard input, `hog N MS`, keeps N connections of its pool busy for so long. With TELL_MS it tells its turns so far on its
 * standard output, again and again. Whoever carries the parcel of the courier DEADLY is killed by it, that of FREEZING makes them stand still.
 */
import { randomUUID } from 'node:crypto';
import { flushCompileCache } from 'node:module';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import type { TakeoverPolicy } from '../../../actors/kernel/dispatcher.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { Database } from '../../../persistence/database.ts';
import { courierKind, tallyKind } from './courier.ts';
import { spinnerKind } from './spinner.ts';

const env = process.env;
/** This life of the process. */
const run = randomUUID();
const settings = {
  host: env['POSTGRES_HOST']!,
  port: Number(env['POSTGRES_PORT']),
  user: env['POSTGRES_USER']!,
  password: env['POSTGRES_PASSWORD']!,
  database: env['POSTGRES_DB']!,
  maxConnections: Number(env['DB_POOL_MAX'] ?? 6),
};
const db = new Database({ ...settings, applicationName: 'gpu-dev lean' });
const longest = Number(env['DELIVERY_MS'] ?? 15);

const kernel = new Kernel({
  db,
  kinds: [
    courierKind(async ({ parcel }: { parcel: number }, { effectId, actor }) => {
      if (actor === env['DEADLY']) process.kill(process.pid, 'SIGKILL');
      while (actor === env['FREEZING']) {}
      await db.query('insert into deliveries (effect_id, run) values ($1, $2)', [effectId, run]);
      await pause(Math.random() * longest);
      await db.query('update deliveries set ended_at = clock_timestamp() where effect_id = $1 and run = $2', [effectId, run]);
      return { type: 'delivered', parcel, by: run } as { type: string };
    }),
    tallyKind(),
    spinnerKind(),
  ],
  leaseSeconds: Number(env['LEASE_SECONDS'] ?? 1),
  pollMs: Number(env['POLL_MS'] ?? 200),
  ...(env['TAKEOVERS'] === undefined ? {} : { takeovers: JSON.parse(env['TAKEOVERS']) as TakeoverPolicy }),
  onError: (where, error) => process.stderr.write(`${where}: ${String(error)}\n`),
  onEffectFailure: ({ effectId, error }) => process.stderr.write(`${effectId}: ${String(error)}\n`),
});

createInterface({ input: process.stdin }).on('line', (line) => {
  const [command, count, milliseconds] = line.split(' ');
  if (command !== 'hog') return;
  for (let n = 0; n < Number(count); n++) {
    db.query('select pg_sleep($1)', [Number(milliseconds) / 1_000]).catch(() => {});
  }
});
await kernel.start();
const tellMs = Number(env['TELL_MS'] ?? 0);
if (tellMs > 0) setInterval(() => process.stdout.write(`${JSON.stringify({ turns: kernel.stats().turns })}\n`), tellMs);
process.stdout.write(`${JSON.stringify({ ready: true, run })}\n`);
flushCompileCache();
