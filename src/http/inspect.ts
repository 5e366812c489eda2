/** GET /v1/reservations/:id/inspect: one reservation for Stately's inspector, as server-sent events. For admins, and only where it is switched on. */
import { z } from 'zod';
import type { Kernel } from '../../actors/kernel/kernel.ts';
import type { Queryable } from '../../persistence/database.ts';
import { endedKeys } from '../../persistence/viewers.ts';
import { Inspection, type Told } from '../live/inspection.ts';
import { principalOf } from './access.ts';
import type { HttpDeps, Server } from './deps.ts';
import { bodyOf, EventStream, sendEvents } from './event-stream.ts';
import { problems } from './problems.ts';
import type { ReservationReader } from './reader.ts';
import { ById } from './reservations.ts';

/** Turns of other processes are looked for this often, and keys too, in milliseconds. */
const LOOK_MS = 1_000;
const BEAT_EVERY = 15;

export function inspectRoutes(app: Server, { db, kernel, inspector }: HttpDeps, reader: ReservationReader): void {
  if (inspector === undefined || inspector === null) return;
  const open = new Set<EventStream>();
  app.addHook('preClose', async () => {
    for (const stream of open) stream.finish();
  });
  app.get(
    '/v1/reservations/:id/inspect',
    {
      exposeHeadRoute: false,
      config: { access: { scope: 'admin', on: 'service' }, endless: true },
      schema: {
        tags: ['reservations'],
        summary: 'A reservation in the words of Stately’s inspector: its history, then what comes',
        description:
          'Events named `inspect`, each an `@xstate.actor`, `@xstate.event` or `@xstate.snapshot`. Secrets are masked.',
        params: ById,
        response: {
          200: z.string().meta({ description: 'text/event-stream' }),
          204: z.null().meta({ description: 'It has ended, and you have all of it.' }),
          ...problems(401, 403, 404, 409, 503),
        },
      },
    },
    async (request, reply) => {
      const { id } = await reader.open(request, request.params.id);
      const inspection = new Inspection(kernel.kinds, `reservation/${id}`);
      const lastId = request.headers['last-event-id'];
      const after = typeof lastId === 'string' && /^\d{1,15}$/.test(lastId) ? Number(lastId) : 0;
      const first = await inspection.read(db, after);
      if (after > 0 && first.length === 0 && inspection.isOver) return reply.code(204).send(null);
      const stream = new EventStream();
      open.add(stream);
      stream.once('close', () => open.delete(stream));
      // A client that goes, or is too slow, is no error of ours.
      stream.on('error', () => {});
      const { keyId } = principalOf(request);
      follow({ db, kernel, stream, keyId, inspection }, first).catch((error: unknown) => {
        app.log.warn({ err: error }, 'an inspection ended');
        stream.destroy();
      });
      return sendEvents(reply, stream) as never;
    },
  );
}

interface Followed {
  db: Queryable;
  kernel: Pick<Kernel, 'watch'>;
  stream: EventStream;
  keyId: number;
  inspection: Inspection;
}

async function follow({ db, kernel, stream, keyId, inspection }: Followed, first: Told[]): Promise<void> {
  let wake = () => {};
  const unwatch = kernel.watch(() => wake());
  try {
    for (let round = 1; !stream.destroyed && !stream.readableEnded; round++) {
      let told = round === 1 ? first : await inspection.read(db);
      while (told.length > 0) {
        for (const { seq, event } of told) stream.send(seq === null ? null : String(seq), bodyOf('inspect', event));
        await stream.room();
        told = await inspection.read(db);
      }
      if (inspection.isOver) return stream.finish();
      if (round % BEAT_EVERY === 0) stream.beat(null);
      if ((await endedKeys(db, [keyId])).length > 0) return stream.finish();
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LOOK_MS);
        const done = () => {
          clearTimeout(timer);
          resolve();
        };
        wake = done;
        stream.once('close', done);
      });
    }
  } finally {
    unwatch();
  }
}
