/** /v1/jobs: reservations under the paths and names that older clients know. The same doors, the same rules, the same ids. */
import type { CreateDoor } from '../../actors/intake/create-door.ts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { EventAction } from '../../actors/intake/messages.ts';
import { CreateMessage, UserName } from '../../actors/intake/messages.ts';
import { GITHUB_NAME } from '../../machines/reservation.events.ts';
import { findJob, type JobRow, listJobs } from '../../persistence/jobs.ts';
import { findJupyterToken } from '../../persistence/reservations.ts';
import { Problem } from '../errors.ts';
import { principalOf } from './access.ts';
import { ask } from './ask.ts';
import type { HttpDeps, Server } from './deps.ts';
import { Job, JOB_STATUSES, jobOf, statusesOf } from './job-view.ts';
import { idempotencyKey, Key, textOf } from './once.ts';
import { problems } from './problems.ts';
import type { ReservationReader, Seen } from './reader.ts';
import { submit } from './submit.ts';
import { requireUser } from './user.ts';

/** What an older client gets that names no duration. */
const DEFAULT_HOURS = 1;

const ById = z.object({ id: z.string().max(100).meta({ description: 'Full id of the job, which is that of its reservation.' }) });

const Submission = z.looseObject({
  user_id: UserName.nullish(),
  image: CreateMessage.shape.image,
  instance_type: z.string().min(1).max(100).meta({ description: 'For people; what is reserved is said by `env_vars`.' }),
  duration_hours: z.number().positive().default(DEFAULT_HOURS),
  disk_name: CreateMessage.shape.disk_name,
  disk_size_gb: z.number().int().min(10).max(10_000).nullish(),
  env_vars: CreateMessage.shape.env_vars.meta({
    description:
      'GPU_TYPE, GPU_COUNT, RESERVATION_ID, GITHUB_USER, JUPYTER_ENABLED, POD_NAME, RECREATE_ENV, PRESERVE_ENTRYPOINT are understood.',
  }),
  command: CreateMessage.shape.command,
});

/** A wish that its path says whole; older clients send no body. */
const Bare = z.looseObject({ idempotency_key: Key }).nullish();

const Submitted = z.object({
  job_id: z.string(),
  status: z.enum(JOB_STATUSES),
  message: z.string(),
  estimated_start_time: z.string().nullable(),
  position: z.number().int().nullable(),
  links: Job.shape.links,
});

const Requested = z.object({
  job_id: z.string(),
  action: z.string(),
  status: z.literal('requested'),
  message: z.string(),
  applied: z.boolean().meta({ description: 'False if it is accepted and still waits to be decided.' }),
});

const REFUSALS = [400, 401, 403, 404, 409, 413, 415, 503] as const;

export function jobRoutes(app: Server, deps: HttpDeps, reader: ReservationReader, door: CreateDoor<Seen>): void {
  const { db } = deps;
  const tags = ['jobs'];

  const view = async (row: JobRow, token: string | null): Promise<Job> => {
    const waits = row.state === 'queued' && row.substate === 'capacity';
    return jobOf(row, waits ? await reader.placeOf(row.gpu_type, row.id) : null, token);
  };

  app.post(
    '/v1/jobs/submit',
    {
      config: { access: { scope: 'reserve', on: 'self' } },
      schema: {
        tags,
        summary: 'Submit a job: reserve a dev server as older clients do',
        body: Submission,
        response: { 200: Submitted, 202: Submitted, ...problems(400, 401, 403, 409, 413, 415, 422, 503) },
      },
    },
    async (request, reply) => {
      const { idempotency_key: inBody, operation_id: operation } = request.body;
      const key = idempotencyKey(request, textOf(inBody), textOf(operation));
      const {
        view: made,
        duplicate,
        notice,
      } = await submit(deps, door, reader, request, {
        ...request.body,
        ...idOf(request.body.env_vars),
        ...(key === null ? {} : { idempotency_key: key }),
      });
      const job = await view((await findJob(db, made.id))!, null);
      const { job_id, status, estimated_start_time, position, links } = job;
      const said = duplicate ? 'This job was submitted before' : `Job submitted: ${made.detail ?? made.state}`;
      const message = notice === null ? said : `${said}. ${notice}`;
      void reply.header('location', `/v1/jobs/${job_id}`);
      if (duplicate) void reply.header('idempotency-replayed', 'true');
      return reply.code(duplicate ? 200 : 202).send({ job_id, status, message, estimated_start_time, position, links });
    },
  );

  app.get(
    '/v1/jobs/:id',
    {
      config: { access: { scope: 'read', on: 'reservation', role: 'view' } },
      schema: { tags, summary: 'One job', params: ById, response: { 200: Job, ...problems(401, 403, 404, 503) } },
    },
    async (request) => {
      const { id, owner } = await open(reader, request);
      const row = (await findJob(db, id))!;
      // Whoever has the token can run code there: a key that may only read does not get it.
      const entitled = owner === requireUser(request) && principalOf(request).scopes.has('reserve');
      const secret = row.jupyter_enabled && entitled ? await findJupyterToken(db, id) : null;
      return view(row, secret?.token ?? null);
    },
  );

  app.get(
    '/v1/jobs',
    {
      config: { access: { scope: 'read', on: 'self' } },
      schema: {
        tags,
        summary: 'Your jobs, newest first',
        querystring: z.object({
          status: z.string().max(200).optional().meta({ description: 'Statuses, separated by commas.' }),
          limit: z.coerce.number().int().min(1).max(500).default(50),
          offset: z.coerce.number().int().min(0).max(1_000_000).default(0),
        }),
        response: {
          200: z.object({ jobs: z.array(Job), total: z.number().int(), limit: z.number().int(), offset: z.number().int() }),
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request) => {
      const { status, limit, offset } = request.query;
      const { jobs, total } = await listJobs(
        db,
        requireUser(request),
        status === undefined ? null : statusesOf(status),
        limit,
        offset,
      );
      return { jobs: await Promise.all(jobs.map((row) => view(row, null))), total, limit, offset };
    },
  );

  const act = async (
    request: FastifyRequest<{ Params: { id: string } }>,
    reply: FastifyReply,
    type: EventAction,
    message: string,
    fields: Record<string, unknown> = {},
  ) => {
    const { id, owner } = await open(reader, request);
    const { idempotency_key: inBody } = (request.body ?? {}) as { idempotency_key?: string | null };
    const applied = await ask(deps, reader, request, { id, owner, type, fields, key: idempotencyKey(request, inBody) });
    return reply.code(applied ? 200 : 202).send({ job_id: id, action: type, status: 'requested', message, applied } as never);
  };
  const config = { access: { scope: 'reserve', on: 'reservation', role: 'own' } } as const;
  const response = { 200: Requested, 202: Requested, ...problems(...REFUSALS) };

  app.post(
    '/v1/jobs/:id/cancel',
    { config, schema: { tags, summary: 'Cancel a job', params: ById, body: Bare, response } },
    (request, reply) => act(request, reply, 'cancel', 'Cancellation requested'),
  );
  app.post(
    '/v1/jobs/:id/jupyter/enable',
    { config, schema: { tags, summary: 'Switch Jupyter on', params: ById, body: Bare, response } },
    (request, reply) => act(request, reply, 'enable_jupyter', 'Jupyter requested'),
  );
  app.post(
    '/v1/jobs/:id/jupyter/disable',
    { config, schema: { tags, summary: 'Switch Jupyter off', params: ById, body: Bare, response } },
    (request, reply) => act(request, reply, 'disable_jupyter', 'End of Jupyter requested'),
  );
  app.post(
    '/v1/jobs/:id/extend',
    {
      config,
      schema: {
        tags,
        summary: 'Extend a job',
        params: ById,
        body: z.object({ extension_hours: z.number().positive().max(720), idempotency_key: Key }),
        response,
      },
    },
    (request, reply) => {
      const { extension_hours } = request.body;
      return act(request, reply, 'extend', `Extension by ${extension_hours} h requested`, { extension_hours });
    },
  );
  app.post(
    '/v1/jobs/:id/users',
    {
      config,
      schema: {
        tags,
        summary: 'Let another user in',
        params: ById,
        body: z.object({ github_username: z.string().regex(GITHUB_NAME, 'must be a GitHub user name'), idempotency_key: Key }),
        response,
      },
    },
    (request, reply) => {
      const { github_username } = request.body;
      return act(request, reply, 'add_user', `Access of ${github_username} requested`, { github_username });
    },
  );
}

/** A job by its full id: its beginning is not enough here. */
function open(reader: ReservationReader, request: FastifyRequest<{ Params: { id: string } }>) {
  const { id } = request.params;
  if (id.length === 36) return reader.open(request, id);
  throw new Problem('GPU_RESERVATION_UNKNOWN', `There is no job ${id.slice(0, 64)}`, { field: 'id' });
}

/** The id that a client has chosen, as older ones say it. */
function idOf(env: Record<string, string> | null | undefined): { reservation_id?: string } {
  const id = env?.['RESERVATION_ID'];
  if (id === undefined || id === '') return {};
  if (z.uuid().safeParse(id).success) return { reservation_id: id };
  throw new Problem('GPU_FIELD_INVALID', 'The field env_vars.RESERVATION_ID must be a UUID', {
    field: 'env_vars.RESERVATION_ID',
  });
}
