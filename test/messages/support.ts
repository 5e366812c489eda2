/** What tests of messages share: the files as producers send them, and a door over a bare database that takes one batch when told. */
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { QueueDoor, type QueueDoorSettings } from '../../actors/intake/queue-door.ts';
import { Kernel, type KernelSettings } from '../../actors/kernel/kernel.ts';
import { gpuDevKinds, type Ports } from '../../actors/kinds.ts';
import { Database } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

// biome-ignore lint/suspicious/noExplicitAny: a message is whatever its producer wrote.
export type Body = any;

const FOLDER = join(import.meta.dirname, '../fixtures/messages');

/** Names of the files of a folder, without their ending. */
export function messageNames(folder: 'valid' | 'invalid'): string[] {
  return readdirSync(join(FOLDER, folder))
    .map((file) => file.replace(/\.json$/, ''))
    .sort();
}

/** A message exactly as it stands in its file. */
export function messageOf(folder: 'valid' | 'invalid', name: string): Body {
  return JSON.parse(readFileSync(join(FOLDER, folder, `${name}.json`), 'utf8'));
}

/** A message whose ids and user are new to this database, so that one database serves many messages. */
export function fresh(name: string, changes: Record<string, unknown> = {}): Body {
  const body = messageOf('valid', name);
  const id = randomUUID();
  const user = `${String(body.user_id ?? 'someone').replace(/@.*/, '')}-${id.slice(0, 6)}`;
  return {
    ...body,
    ...(body.reservation_id === undefined ? {} : { reservation_id: id }),
    ...(body.job_id === undefined ? {} : { job_id: id }),
    ...(body.operation_id === undefined ? {} : { operation_id: randomUUID() }),
    ...(body.env_vars === undefined ? {} : { env_vars: { ...body.env_vars, RESERVATION_ID: id, USER_ID: user } }),
    user_id: user,
    ...changes,
  };
}

export interface Door {
  db: Database;
  kernel: Kernel;
  /** Take one batch of a queue. */
  consume(): Promise<number>;
  /** Take batches until the queue gives nothing more. */
  drain(): Promise<void>;
  door: QueueDoor;
  errors: unknown[];
  send(body: unknown, queue?: string): Promise<number>;
  /** Everything that doors sent to an actor, in order: what it has taken, and what waits. */
  mail(id: string): Promise<{ key: string; event: Body; held: boolean; sender: string }[]>;
  letters(): Promise<Body[]>;
  archived(msgId: number, queue?: string): Promise<boolean>;
  waiting(queue?: string): Promise<number>;
  stop(): Promise<void>;
}

/** A door without a cluster: nothing runs by itself; handlers of effects are never reached, so there are no ports. */
export async function startDoor(
  options: { door?: Partial<QueueDoorSettings>; kernel?: Partial<KernelSettings>; database?: TestDatabase } = {},
): Promise<Door> {
  const database = options.database ?? (await createTestDatabase());
  const db = new Database({ ...database.config, maxConnections: 6 });
  const kernel = new Kernel({ db, kinds: gpuDevKinds({ db } as unknown as Ports), ...options.kernel });
  const errors: unknown[] = [];
  const queue = options.door?.queue ?? 'gpu_reservations';
  const settings = {
    db,
    kernel,
    queue,
    visibilitySeconds: 300,
    pollMs: 500,
    batchSize: 1,
    onError: (e: unknown) => void errors.push(e),
  };
  const door = new QueueDoor({ ...settings, ...options.door });
  return {
    db,
    kernel,
    door,
    errors,
    consume: () => door.consume(),
    drain: async () => {
      while ((await door.consume()) === 0);
    },
    send: async (body, to = queue) =>
      (await db.query<{ send: number }>('select pgmq.send($1, $2::jsonb) as send', [to, JSON.stringify(body)])).rows[0]!.send,
    mail: async (id) => (await db.query<Body>(SENT, [`reservation/${id}`])).rows,
    letters: async () => (await db.query<Body>('select * from dead_letters order by id')).rows,
    archived: async (msgId, from = queue) => (await db.query(ARCHIVED[from]!, [msgId])).rowCount === 1,
    waiting: async (from = queue) => (await db.query<{ n: number }>(WAITING[from]!)).rows[0]!.n,
    stop: async () => {
      await kernel.stop(0);
      await db.close();
      await database.drop();
    },
  };
}

const SENT = `
  select key, event, held, sender
    from (select key, event, false as held, sender, seq as place, 1 as part from history where actor = $1
          union all
          select key, event, held, sender, id, 2 from mailbox where actor = $1) sent
   where part = 2 or sender like 'queue:%' or sender like 'http%' order by part, place`;

/** Let `check` see what doors send, before it is sent: what it throws, sending throws. Then `ms` pass before the end of the door's transaction. */
export function watchPosts(kernel: Kernel, check: (messages: readonly Message[]) => void, ms = 0): void {
  const [post, deliver] = [kernel.post.bind(kernel), kernel.deliver.bind(kernel)];
  kernel.post = async (messages, within) => {
    check(messages);
    await pause(ms);
    return post(messages, within);
  };
  kernel.deliver = (write) =>
    deliver(async (tx, send) => {
      const written = await write(tx, (messages) => {
        check(messages);
        send(messages);
      });
      await pause(ms);
      return written;
    });
}

export const ARCHIVED: Record<string, string> = {
  gpu_reservations: 'select 1 from pgmq.a_gpu_reservations where msg_id = $1',
  disk_operations: 'select 1 from pgmq.a_disk_operations where msg_id = $1',
};
export const WAITING: Record<string, string> = {
  gpu_reservations: 'select count(*)::int as n from pgmq.q_gpu_reservations',
  disk_operations: 'select count(*)::int as n from pgmq.q_disk_operations',
};
