/** POST /v1/admin/reservations/:id/release: an operator's word that a server has ended counts as the proof that its GPUs may be given on. */
import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { findActor } from '../../persistence/actor-store.ts';
import type { Queryable } from '../../persistence/database.ts';
import { findDiskRow } from '../../persistence/disks.ts';
import { enqueue } from '../../persistence/mailbox.ts';
import { findReservationRow, type ReservationRow } from '../../persistence/reservations.ts';
import { Problem } from '../errors.ts';
import { ADMIN, audit, operatorOf, Reason } from './admin-act.ts';
import type { HttpDeps, Server } from './deps.ts';
import { actOnce, Key } from './once.ts';
import { problems } from './problems.ts';
import { until } from './waiting.ts';

/** How long the answer waits until the slots are free. */
const FREED_MS = 2_000;

const Released = z.object({
  id: z.string(),
  state: z.string(),
  slots: z.array(z.object({ node: z.string(), slot: z.number().int() })).meta({ description: 'What it held.' }),
  lost: z.array(z.string()),
  freed: z.boolean().meta({ description: 'False: accepted, and the pool has not read it yet.' }),
});

interface Held {
  node: string;
  slot: number;
  generation: number;
  gpu_type: string;
}

export function releaseRoutes(app: Server, { db, kernel }: HttpDeps): void {
  app.post(
    '/v1/admin/reservations/:id/release',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Give your word that the containers of a server have ended: its GPUs are given to the next',
        description:
          'Without `confirm` it only says what would be lost (409). For servers on nodes that do not answer; anything else ends by itself when it is cancelled.',
        params: z.object({ id: z.uuid() }),
        body: z.strictObject({
          reason: Reason.meta({ description: 'How you know that nothing of it runs any more.' }),
          confirm: z.string().max(64).nullish().meta({ description: 'The id once more.' }),
          idempotency_key: Key,
        }),
        response: { 200: Released, ...problems(400, 401, 403, 404, 409, 415, 503) },
      },
    },
    async (request) => {
      const id = request.params.id.toLowerCase();
      const { reason, confirm } = request.body;
      const answer = await actOnce(db, request, async (tx) => {
        const row = await findReservationRow(tx, id);
        if (row === null) throw new Problem('GPU_RESERVATION_UNKNOWN', `There is no reservation ${id}`, { field: 'id' });
        const held = await slotsOf(tx, id);
        if (held.length === 0) throw nothingHeld(row);
        const lost = await whatIsLost(tx, row, held);
        if (confirm?.toLowerCase() !== id) {
          throw new Problem('GPU_CONFIRMATION_NEEDED', `Repeat ${id} in the field confirm, if nothing of it runs any more`, {
            field: 'confirm',
            details: { confirm: id, would_lose: lost },
          });
        }
        const by = operatorOf(request);
        await tell(tx, id, held, `the word of ${by}: ${reason}`, by);
        await audit(tx, request, { action: 'reservation.release', object: `reservation/${id}`, details: { reason, lost } });
        return { id, state: row.status, slots: held.map(({ node, slot }) => ({ node, slot })), lost, freed: false };
      });
      await kernel.pump(`reservation/${id}`);
      for (const type of new Set((await slotsOf(db, id)).map((each) => each.gpu_type))) await kernel.pump(`gpu-pool/${type}`);
      kernel.wake();
      kernel.wakeOthers();
      const freed = await until(FREED_MS, async () => ((await slotsOf(db, id)).length === 0 ? true : null));
      const after = await findReservationRow(db, id);
      return { ...answer, state: after?.status ?? answer.state, freed: freed === true };
    },
  );

  /**
   * The reservation is told twice: where its server is not being stopped yet, the first word begins the end and the second frees the slots.
   * One that cannot be told, since it was set aside or has ended, leaves its slots by the pool itself.
   */
  async function tell(tx: Queryable, id: string, held: readonly Held[], proof: string, by: string): Promise<void> {
    const { generation, gpu_type } = held[0]!;
    const actor = `reservation/${id}`;
    const sender = `operator:${by}`;
    const gone = { type: 'pod.gone', generation, proof } as { type: string };
    const word = uuidv7();
    const row = await findActor(tx, actor);
    if (row !== null && row.status === 'active') {
      await enqueue(tx, [
        { actor, key: `release:${word}:1`, event: gone, sender },
        { actor, key: `release:${word}:2`, event: gone, sender },
      ]);
      if (row.quarantineReason === null) return;
    }
    const returned = { type: 'capacity.returned', reservationId: id, generation } as { type: string };
    await kernel.post([{ actor: `gpu-pool/${gpu_type}`, key: `release:${word}`, event: returned, sender }], tx);
  }
}

async function slotsOf(db: Queryable, id: string): Promise<Held[]> {
  const { rows } = await db.query<Held>(
    'select node, slot, generation, gpu_type from gpu_slots where reservation_id = $1 order by node, slot',
    [id],
  );
  return rows;
}

function nothingHeld({ id, status }: ReservationRow): Problem {
  return new Problem('GPU_NOTHING_TO_RELEASE', `The reservation ${id} is ${status} and holds no GPU`, {
    details: { state: status },
  });
}

/** What the operator takes upon himself, in sentences. */
async function whatIsLost(db: Queryable, row: ReservationRow, held: readonly Held[]): Promise<string[]> {
  const node = held[0]!.node;
  const disk = row.disk_name === null ? null : await findDiskRow(db, row.user_id, row.disk_name);
  const kept =
    disk?.last_snapshot_at == null ? 'it has no snapshot yet' : `its last snapshot is of ${disk.last_snapshot_at.toISOString()}`;
  return [
    `${held.length} slots of ${row.gpu_type} on ${node} are given to the next in line. Should containers of ${row.id} still run there, two servers share them until they end.`,
    ...(row.status === 'snapshotting'
      ? []
      : [`The server of ${row.user_id} (${row.name}, ${row.status}) ends: what is in its memory and in /workspace is lost.`]),
    row.disk_name === null
      ? 'It has no disk: nothing of it is saved.'
      : `The disk ${row.disk_name} is saved when nothing uses its volume any more; until then ${kept}.`,
  ];
}
