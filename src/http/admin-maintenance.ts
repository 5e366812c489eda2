/** Maintenance of GPU types: announced or begun, changed and ended by operators. The pools themselves keep it, by messages. */
import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { readCatalogue } from '../../actors/intake/catalogue.ts';
import { UserName } from '../../actors/intake/messages.ts';
import { listMaintenance, type MaintenanceRow } from '../../persistence/maintenance.ts';
import { Problem } from '../errors.ts';
import { ADMIN, audit, operatorOf, Reason } from './admin-act.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';
import { until } from './waiting.ts';

/** How long an answer waits for the pool's turn. */
const TURN_MS = 2_000;

export const MaintenanceView = z
  .object({
    gpu_type: z.string(),
    reason: z.string(),
    from: z.string(),
    until: z.string().nullable().meta({ description: 'null: until an operator ends it.' }),
    in_force: z.boolean().meta({ description: 'False: announced.' }),
    allowed_users: z.array(z.string()).meta({ description: 'Users whom it does not concern.' }),
    asked_by: z.string(),
    waiting: z.number().int().meta({ description: 'Reservations that wait for its end.' }),
  })
  .meta({ description: 'Maintenance of a GPU type.' });

export function viewOfMaintenance(row: MaintenanceRow): z.infer<typeof MaintenanceView> {
  const { from_at, until_at, updated_at: _updated, ...rest } = row;
  return { ...rest, from: from_at.toISOString(), until: until_at?.toISOString() ?? null };
}

const ByType = z.object({ gpu_type: z.string().min(1).max(64) });
const Moment = z.iso.datetime({ offset: true });

export function maintenanceRoutes(app: Server, deps: HttpDeps): void {
  const { db, kernel } = deps;

  app.get(
    '/v1/admin/maintenance',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Maintenance, announced or in force',
        response: { 200: z.object({ maintenance: z.array(MaintenanceView) }), ...problems(401, 403, 503) },
      },
    },
    async () => ({ maintenance: (await listMaintenance(db)).map(viewOfMaintenance) }),
  );

  app.put(
    '/v1/admin/maintenance/:gpu_type',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Begin, announce or change maintenance of a GPU type',
        description:
          'New requests of others than the allowed users are refused with the reason. Those that wait keep their place and are told; what runs goes on, and is not extended.',
        params: ByType,
        body: z.strictObject({
          reason: Reason,
          from: Moment.nullish().meta({ description: 'Left out: now.' }),
          until: Moment.nullish().meta({ description: 'Left out: until it is ended.' }),
          allowed_users: z.array(UserName).max(1_000).nullish(),
        }),
        response: { 200: MaintenanceView, ...problems(400, 401, 403, 404, 415, 422, 503) },
      },
    },
    async (request) => {
      const { reason, from, until: end, allowed_users } = request.body;
      const gpuType = await mustOffer(request.params.gpu_type);
      if (end != null && Date.parse(end) <= Math.max(Date.now(), from == null ? 0 : Date.parse(from))) {
        throw new Problem('GPU_FIELD_INVALID', 'The field until must be to come, and after from', { field: 'until' });
      }
      const allowed = [...new Set(allowed_users ?? [])];
      // What has begun already begins now.
      const begin = from == null || Date.parse(from) <= Date.now() ? null : from;
      const wish = { reason, from: begin, until: end ?? null, allowed };
      await tell(gpuType, request, { type: 'pool.paused', by: operatorOf(request), ...wish }, 'maintenance.set');
      return viewOfMaintenance((await listMaintenance(db, gpuType))[0]!);
    },
  );

  app.delete(
    '/v1/admin/maintenance/:gpu_type',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'End maintenance of a GPU type; one that has none is fine',
        params: ByType,
        response: { 200: z.object({ gpu_type: z.string(), maintenance: z.null() }), ...problems(401, 403, 404, 422, 503) },
      },
    },
    async (request) => {
      const gpuType = await mustOffer(request.params.gpu_type);
      await tell(gpuType, request, { type: 'pool.resumed', by: operatorOf(request) }, 'maintenance.end');
      return { gpu_type: gpuType, maintenance: null };
    },
  );

  /** @throws Problem if there is no such type */
  async function mustOffer(name: string): Promise<string> {
    const known = [...(await readCatalogue(db)).keys()];
    const gpuType = name.toLowerCase();
    if (known.includes(gpuType)) return gpuType;
    throw new Problem('GPU_TYPE_UNKNOWN', `The GPU type ${gpuType} is unknown`, {
      field: 'gpu_type',
      details: { allowed: known },
    });
  }

  /** Post the event with its audit row, and wait until the pool has taken it. @throws Problem if it does not in time */
  async function tell(
    gpuType: string,
    request: Parameters<typeof audit>[1],
    event: { type: string; [field: string]: unknown },
    action: string,
  ): Promise<void> {
    const actor = `gpu-pool/${gpuType}`;
    const key = `admin:${uuidv7()}`;
    await db.withTransaction(async (tx) => {
      await kernel.post([{ actor, key, event, sender: 'http' }], tx);
      const { type: _type, by: _by, ...details } = event;
      await audit(tx, request, { action, object: `gpu-type/${gpuType}`, details });
    });
    await kernel.pump(actor);
    kernel.wake();
    kernel.wakeOthers();
    const taken = await until(TURN_MS, () => kernel.outcome(actor, key));
    if (taken === null) throw new Problem('GPU_DATABASE_BUSY', `The pool of ${gpuType} has not answered yet; it will`);
  }
}
