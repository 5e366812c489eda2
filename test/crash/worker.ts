/**
 * The service without HTTP, as a process that tests may kill: database, providers, kernel, tracker and queue doors from the environment.
 * Beyond the service's own variables it knows TEST_CLOCK (a file with milliseconds to add to the clock), TEST_LEASE_SECONDS, and
 * TEST_DELIVERIES (each run of a handler to its end becomes a row of the table `deliveries`). A line on its standard input, `SIGKILL point#N` (or SIGSTOP), makes the process send itself that signal at the Nth passage of a crash point.
 */
import { readFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { createInterface } from 'node:readline';
import pino from 'pino';
import { removeOrphans } from '../../actors/gpu-pool/orphans.ts';
import { Tracker } from '../../actors/gpu-pool/tracker.ts';
import { QueueDoor } from '../../actors/intake/queue-door.ts';
import { armCrashPoints } from '../../actors/kernel/crash-points.ts';
import { Kernel } from '../../actors/kernel/kernel.ts';
import type { ActorKind, EffectHandler } from '../../actors/kernel/kind.ts';
import { gpuDevKinds } from '../../actors/kinds.ts';
import { Database } from '../../persistence/database.ts';
import { enableNotifications, insertChannel } from '../../persistence/pgmq.ts';
import { readConfig } from '../../src/config.ts';
import { providersFrom } from '../../src/providers/providers.ts';

const config = readConfig(process.env);
const log = pino({ level: config.logLevel, base: { pid: process.pid } }, pino.destination({ dest: 2, sync: true }));
const warn = (what: string) => (error: unknown) => log.warn({ err: error }, what);
const leaseSeconds = Number(process.env['TEST_LEASE_SECONDS'] ?? 1);
const clockFile = process.env['TEST_CLOCK'];
const clock = {
  now: () => (clockFile === undefined ? null : new Date(Date.now() + Number(readFileSync(clockFile, 'utf8')))),
};

const db = new Database({ ...config.database, applicationName: 'gpu-dev worker' });
const providers = providersFrom(config, db, log);
const queues = [config.queues.reservations, config.queues.disks];
const doors = new Map<string, QueueDoor>();
const recording = Boolean(process.env['TEST_DELIVERIES']);
const kernel = new Kernel({
  db,
  kinds: gpuDevKinds({ db, ...providers }).map((kind) => (recording ? recorded(kind) : kind)),
  clock,
  timeScale: config.timeScale,
  leaseSeconds,
  listen: Object.fromEntries(queues.map((queue) => [insertChannel(queue), () => doors.get(queue)?.wake()])),
  onReconnect: () => {
    for (const door of doors.values()) door.wake(true);
  },
  onError: (where, error) => warn(where)(error),
  onEffectFailure: ({ effectId, error }) => warn(effectId)(error),
});
for (const queue of queues) {
  const { pollMs, visibilitySeconds, batchSize } = config.queues;
  doors.set(queue, new QueueDoor({ db, kernel, queue, pollMs, visibilitySeconds, batchSize, onError: warn(queue) }));
  await enableNotifications(db, queue);
}
/** The kind, with each run of a handler that came to its end written down. */
function recorded(kind: ActorKind): ActorKind {
  const handlers = Object.entries(kind.handlers).map(([type, handler]): [string, EffectHandler] => [
    type,
    async (effect, context) => {
      const result = await handler(effect, context);
      await db.query('insert into deliveries (effect_id) values ($1)', [context.effectId]);
      return result;
    },
  ]);
  return { ...kind, handlers: Object.fromEntries(handlers) };
}

const tracker = new Tracker({
  db,
  kernel,
  leaseSeconds,
  connect: providers.connectEvents,
  confirmGone: async (server) => !(await providers.servers.exists(server)),
  confirmNodeGone: providers.confirmNodeGone,
  onServers: (pods) => removeOrphans(db, providers.servers, pods, warn('orphans')),
  onError: warn('tracker'),
});
const { rows: types } = await db.query<{ gpu_type: string }>('select gpu_type from gpu_types where is_active');
await kernel.post(
  types.map(({ gpu_type: gpuType }) => ({
    actor: `gpu-pool/${gpuType}`,
    key: 'opened',
    event: { type: 'pool.opened', gpuType } as { type: string },
    sender: 'service',
  })),
);
createInterface({ input: process.stdin }).on('line', (line) => {
  const [signal, point, count] = line.split(/[ #]/);
  let left = Number(count);
  armCrashPoints((reached) => {
    if (reached === point && --left === 0) process.kill(process.pid, signal);
  });
  process.stdout.write(`${JSON.stringify({ armed: point })}\n`);
});
await kernel.start();
for (const door of doors.values()) door.start();
tracker.start();
process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
// A killed process writes no cache, and the next one would compile everything again.
flushCompileCache();
