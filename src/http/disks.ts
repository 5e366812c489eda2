/** /v1/disks: persistent disks, and what can be asked of them. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { DiskName, SizeGb, SnapshotId, UserName } from '../../actors/intake/messages.ts';
import type { Queryable } from '../../persistence/database.ts';
import { countDisks, findOperation, listDisks, type OperationRow } from '../../persistence/disks.ts';
import { Problem } from '../errors.ts';
import type { Access } from '../identity/principal.ts';
import { principalOf } from './access.ts';
import { NAME, openCursor, sealCursor } from './cursor.ts';
import type { HttpDeps, Server } from './deps.ts';
import { ByName, mustFindDisk, Whose } from './disk-access.ts';
import { operate } from './disk-operations.ts';
import { DiskView, OperationView, viewOfDisk, viewOfOperation } from './disk-view.ts';
import { problems } from './problems.ts';
import { userOfList } from './user.ts';

const READS = { access: { scope: 'read', on: 'disk', role: 'view' } satisfies Access };
const CHANGES = { access: { scope: 'disks', on: 'disk', role: 'own' } satisfies Access };

const common = { user_id: UserName.nullish(), idempotency_key: z.string().min(1).max(200).nullish() };
const ANSWERS = { 200: OperationView, 202: OperationView, ...problems(400, 401, 403, 404, 409, 410, 413, 415, 503) };
const ONCE = 'A repeated Idempotency-Key acts once, and answers 200 with the operation of the first time.';
const DeleteDate = z.union([z.iso.date(), z.iso.datetime({ offset: true })]);

export function diskRoutes(app: Server, deps: HttpDeps): void {
  const { db } = deps;

  app.get(
    '/v1/disks',
    {
      config: { access: { scope: 'read', on: 'self' } },
      schema: {
        tags: ['disks'],
        summary: 'Persistent disks, by name',
        querystring: z.object({
          user: z
            .string()
            .max(128)
            .optional()
            .meta({ description: 'Owner; another than oneself, or `*` for all, is for admins.' }),
          deleted: z
            .enum(['true', 'false'])
            .default('false')
            .meta({ description: '`true`: with those that are deleted and can be brought back.' }),
          limit: z.coerce.number().int().min(1).max(1_000).default(200),
          cursor: z.string().max(600).optional().meta({ description: '`next_cursor` of the page before.' }),
        }),
        response: {
          200: z.object({ disks: z.array(DiskView), total: z.number().int(), next_cursor: z.string().nullable() }),
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request) => {
      const { user, limit, cursor } = request.query;
      const place = openCursor(cursor, NAME, NAME);
      const filter = { user: userOfList(request, user), deleted: request.query.deleted === 'true' };
      const after = place === null ? null : { user: place[0], name: place[1] };
      const [rows, total] = await Promise.all([listDisks(db, { ...filter, limit: limit + 1, after }), countDisks(db, filter)]);
      const last = rows.length > limit ? rows[limit - 1]! : null;
      return {
        disks: rows.slice(0, limit).map(viewOfDisk),
        total,
        next_cursor: last === null ? null : sealCursor(last.user_id, last.name),
      };
    },
  );

  app.post(
    '/v1/disks',
    {
      config: { access: { scope: 'disks', on: 'self' } },
      schema: {
        tags: ['disks'],
        summary: 'Make a disk; its volume is made at its first use',
        description: ONCE,
        querystring: Whose,
        body: z.strictObject({ disk_name: DiskName, size_gb: SizeGb.nullish(), ...common }),
        response: ANSWERS,
      },
    },
    async (request, reply) => {
      const { disk_name, size_gb } = request.body;
      const fields = { disk_name, size_gb };
      return operate(deps, request, reply, { action: 'create_disk', reference: null, fields, body: request.body });
    },
  );

  app.get(
    '/v1/disks/:name',
    {
      config: READS,
      schema: {
        tags: ['disks'],
        summary: 'One disk, by its name or its id',
        params: ByName,
        querystring: Whose,
        response: { 200: DiskView, ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request) => viewOfDisk(await mustFindDisk(db, request, request.params.name)),
  );

  app.delete(
    '/v1/disks/:name',
    {
      config: CHANGES,
      schema: {
        tags: ['disks'],
        summary: 'Delete a disk; for 30 days it can be brought back',
        description: `One in use is refused with 409, and the reservation that holds it is named. ${ONCE}`,
        params: ByName,
        querystring: Whose.extend({
          delete_date: DeleteDate.optional().meta({ description: 'When it is purged; left out: in 30 days.' }),
        }),
        response: ANSWERS,
      },
    },
    async (request, reply) => {
      const fields = { delete_date: request.query.delete_date };
      return operate(deps, request, reply, { action: 'delete_disk', reference: request.params.name, fields });
    },
  );

  app.post(
    '/v1/disks/:name/undelete',
    {
      config: CHANGES,
      schema: {
        tags: ['disks'],
        summary: 'Bring a deleted disk back',
        description: ONCE,
        params: ByName,
        querystring: Whose,
        body: z.strictObject(common).nullish(),
        response: ANSWERS,
      },
    },
    async (request, reply) => {
      const body = request.body ?? undefined;
      return operate(deps, request, reply, { action: 'undelete_disk', reference: request.params.name, fields: {}, body });
    },
  );

  app.post(
    '/v1/disks/:name/rename',
    {
      config: CHANGES,
      schema: {
        tags: ['disks'],
        summary: 'Give a disk another name; its id, its volume and its snapshots stay what they are',
        description: ONCE,
        params: ByName,
        querystring: Whose,
        body: z.strictObject({ new_name: DiskName, ...common }),
        response: ANSWERS,
      },
    },
    async (request, reply) => {
      const { new_name } = request.body;
      const wish = { reference: request.params.name, fields: { new_name }, body: request.body };
      return operate(deps, request, reply, { action: 'rename_disk', ...wish });
    },
  );

  app.post(
    '/v1/disks/:name/clone',
    {
      config: CHANGES,
      schema: {
        tags: ['disks'],
        summary: 'Make a new disk that starts from the newest snapshot of this one',
        description: `Without a snapshot one is taken first; while the disk is in use without one, the clone waits, and its operation says for whom. ${ONCE}`,
        params: ByName,
        querystring: Whose,
        body: z.strictObject({ target_disk: DiskName, ...common }),
        response: ANSWERS,
      },
    },
    async (request, reply) => {
      const { target_disk } = request.body;
      const wish = { reference: request.params.name, names: 'source_disk' as const, fields: { target_disk } };
      return operate(deps, request, reply, { action: 'clone_disk', ...wish, body: request.body });
    },
  );

  app.post(
    '/v1/disks/:name/restore',
    {
      config: CHANGES,
      schema: {
        tags: ['disks'],
        summary: 'Set a disk back to one of its snapshots',
        description: `What no snapshot holds yet is saved first, so that this can be taken back by another restore. ${ONCE}`,
        params: ByName,
        querystring: Whose,
        body: z.strictObject({ snapshot_id: SnapshotId, ...common }),
        response: ANSWERS,
      },
    },
    async (request, reply) => {
      const { snapshot_id } = request.body;
      const wish = { reference: request.params.name, fields: { snapshot_id }, body: request.body };
      return operate(deps, request, reply, { action: 'restore_disk', ...wish });
    },
  );

  app.get(
    '/v1/disks/:name/operations/:operation',
    {
      config: READS,
      schema: {
        tags: ['disks'],
        summary: 'What became of an operation on a disk',
        params: ByName.extend({ operation: z.string().min(1).max(200) }),
        querystring: Whose,
        response: { 200: OperationView, ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request) => {
      const { name, operation: id } = request.params;
      const row = await operationOf(db, request, id);
      if (row.disk_name === name || row.disk_id === name) return viewOfOperation(row);
      // Its disk may bear another name by now.
      if ((await mustFindDisk(db, request, name)).id !== row.disk_id) throw noOperation(id);
      return viewOfOperation(row);
    },
  );

  app.get(
    '/v1/operations/:id',
    {
      config: READS,
      schema: {
        tags: ['disks'],
        summary: 'What became of an operation on a disk, by its id alone',
        params: z.object({ id: z.string().min(1).max(200) }),
        response: { 200: OperationView, ...problems(401, 403, 404, 503) },
      },
    },
    async (request) => viewOfOperation(await operationOf(db, request, request.params.id)),
  );
}

/** @throws Problem 404 if there is none, or it is somebody else's */
async function operationOf(db: Queryable, request: FastifyRequest, id: string): Promise<OperationRow> {
  const found = await findOperation(db, id);
  const { user, admin } = principalOf(request);
  if (found === null || (found.user_id !== user && !admin)) throw noOperation(id);
  return found;
}

function noOperation(id: string): Problem {
  return new Problem('GPU_OPERATION_UNKNOWN', `There is no operation ${id}`, { field: 'id' });
}
