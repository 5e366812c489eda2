/** GET /v1/machines/:name/graph and below: charts with their places, and who is in which state. */
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { actorsIn, reservationsIn } from '../../persistence/lifecycle.ts';
import { Problem } from '../errors.ts';
import { MACHINES, machineOf } from '../lifecycle/charts.ts';
import { chartOf } from '../lifecycle/graph.ts';
import { Layouts, type PlacedChart } from '../lifecycle/layout.ts';
import { NAME, openCursor, sealCursor } from './cursor.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';
import { userOfList } from './user.ts';

const Shape = { x: z.number(), y: z.number(), width: z.number(), height: z.number() };
const Transition = z.object({
  id: z.string(),
  from: z.string(),
  to: z.string().nullable(),
  event: z.string().nullable().meta({ description: 'Null: taken at once.' }),
  guard: z.string().nullable(),
  actions: z.array(z.string()),
  description: z.string().nullable(),
  otherwise: z.boolean().meta({ description: 'A guarded alternative stands before it.' }),
});
const Graph = z
  .object({
    machine: z.string(),
    version: z.string(),
    description: z.string(),
    width: z.number(),
    height: z.number(),
    nodes: z.array(
      z.object({
        id: z.string(),
        path: z.string(),
        key: z.string(),
        parent: z.string().nullable(),
        type: z.enum(['atomic', 'compound', 'parallel', 'final', 'history', 'initial', 'any']),
        description: z.string(),
        tags: z.array(z.string()),
        entry: z.array(z.string()),
        exit: z.array(z.string()),
        initial: z.array(z.string()),
        stays: z.array(Transition).meta({ description: 'What it takes without leaving it.' }),
        ...Shape,
      }),
    ),
    edges: z.array(
      z.object({
        id: z.string(),
        within: z.string(),
        source: z.string(),
        target: z.string(),
        transitions: z.array(Transition),
        points: z.array(z.tuple([z.number(), z.number()])),
        label: z.object(Shape),
        lines: z.array(z.string()),
      }),
    ),
  })
  .meta({ description: 'A chart: states with their place in their parent, ways with their corners in the whole, in pixels.' });

const ResidentView = z.object({ id: z.string(), label: z.string(), user_id: z.string().nullable(), since: z.string() });

const layouts = new Layouts();

/** Lay all charts out, for those who will soon look at one. What fails is tried again when one is asked for. */
export function prepareCharts(): void {
  for (const [name, machine] of Object.entries(MACHINES)) layouts.placed(chartOf(name, machine)).catch(() => {});
}

export function chartRoutes(app: Server, { db }: HttpDeps): void {
  const bodies = new WeakMap<PlacedChart, { text: string; tag: string }>();

  app.get(
    '/v1/machines/:name/graph',
    {
      config: { access: { scope: 'read', on: 'service' } },
      schema: {
        tags: ['machines'],
        summary: 'A machine as a chart, laid out',
        description: 'Every state and every transition. It changes with the version of the machine only, and comes with an ETag.',
        params: z.object({ name: z.string().max(100) }),
        response: { 200: Graph, ...problems(401, 403, 404) },
      },
    },
    async (request, reply) => {
      const { name, machine } = machineOf(request.params.name);
      const placed = await layouts.placed(chartOf(name, machine));
      let body = bodies.get(placed);
      if (body === undefined) {
        const text = JSON.stringify(placed);
        body = { text, tag: `"${createHash('sha256').update(text).digest('base64url').slice(0, 22)}"` };
        bodies.set(placed, body);
      }
      return sendTagged(request, reply, body);
    },
  );

  app.get(
    '/v1/machines/:name/states/:path',
    {
      config: { access: { scope: 'read', on: 'self' } },
      schema: {
        tags: ['machines'],
        summary: 'Who is in a state',
        params: z.object({
          name: z.string().max(100),
          path: z
            .string()
            .max(200)
            .meta({ description: 'Dotted, as in the graph; a state with states in it stands for all of them.' }),
        }),
        querystring: z.object({
          user: z
            .string()
            .max(128)
            .optional()
            .meta({ description: 'Owner; another than oneself, or `*` for all, is for admins.' }),
          limit: z.coerce.number().int().min(1).max(1_000).default(200),
          cursor: z.string().max(400).optional().meta({ description: '`next_cursor` of the page before.' }),
        }),
        response: {
          200: z.object({ residents: z.array(ResidentView), next_cursor: z.string().nullable() }),
          ...problems(400, 401, 403, 404, 503),
        },
      },
    },
    async (request) => {
      const { name, machine } = machineOf(request.params.name);
      const { path } = request.params;
      const { nodes } = chartOf(name, machine);
      if (path === '' || !nodes.some((node) => node.path === path)) {
        throw new Problem('GPU_NOT_FOUND', `The machine ${name} has no state ${path}`);
      }
      const { limit, cursor } = request.query;
      const [after] = openCursor(cursor, NAME) ?? [''];
      const user = userOfList(request, request.query.user);
      const asked = { path, user, after, limit: limit + 1 };
      const rows = await (name === 'reservation' ? reservationsIn(db, asked) : actorsIn(db, { ...asked, kind: name }));
      const page = rows.slice(0, limit);
      return {
        residents: page.map((row) => ({ ...row, since: row.since.toISOString() })),
        next_cursor: rows.length > limit ? sealCursor(page.at(-1)!.id) : null,
      };
    },
  );
}

/** JSON that was written once, or that the client has it already. */
function sendTagged(request: FastifyRequest, reply: FastifyReply, { text, tag }: { text: string; tag: string }): FastifyReply {
  void reply.header('etag', tag).header('cache-control', 'private, no-cache');
  const known = request.headers['if-none-match'];
  if (known?.split(',').some((each) => each.trim().replace(/^W\//, '') === tag)) return reply.code(304).send();
  return reply
    .header('content-type', 'application/json; charset=utf-8')
    .serializer((body: unknown) => body as string)
    .send(text as never);
}
