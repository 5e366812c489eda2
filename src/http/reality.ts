/** Differences between database and cluster, and comparisons of the two, for operators. */
import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { findRun, lastRun, listFindings, requestRun, type RunRow } from '../../persistence/reality.ts';
import { Problem } from '../errors.ts';
import { audit, operatorOf } from './admin-act.ts';
import { MOMENT, NUMBER, openCursor, sealCursor } from './cursor.ts';
import type { HttpDeps, Server } from './deps.ts';
import { actOnce, Key } from './once.ts';
import { problems } from './problems.ts';

const Verdict = z.enum(['ended', 'unknown', 'unrecorded', 'missing']);

const Line = z.object({
  kind: z.string(),
  name: z.string(),
  actor: z.string().nullable().meta({ description: 'Whose it is, as its labels say.' }),
  verdict: Verdict,
  why: z.string(),
  first_seen: z.string(),
});

const Finding = Line.extend({
  id: z.number().int(),
  uid: z.string().meta({ description: 'Empty for what is missing.' }),
  last_seen: z.string(),
  done: z.enum(['reported', 'removed', 'told']),
  done_at: z.string().nullable(),
});

const Run = z.object({
  id: z.string(),
  status: z.enum(['waiting', 'running', 'done', 'failed']),
  dry_run: z.boolean(),
  asked_by: z.string(),
  requested_at: z.string(),
  ended_at: z.string().nullable(),
  error: z.string().nullable(),
  findings: z.array(
    Line.extend({
      action: z.enum(['reported', 'removed', 'told', 'waits', 'changed', 'failed', 'held', 'would remove', 'would tell']),
    }),
  ),
  left_out: z.number().int().meta({ description: 'Findings that do not stand here.' }),
  unanswered: z.array(z.string()).meta({ description: 'What the cluster did not answer: nothing is said of it.' }),
});

export function realityRoutes(app: Server, { db }: HttpDeps): void {
  app.get(
    '/v1/admin/findings',
    {
      config: { access: { scope: 'admin', on: 'service' } },
      schema: {
        tags: ['service'],
        summary: 'Open differences between database and cluster, oldest first',
        querystring: z.object({
          kind: z.string().max(63).optional().meta({ description: 'As Kubernetes calls it.' }),
          verdict: Verdict.optional(),
          limit: z.coerce.number().int().min(1).max(5_000).default(1_000),
          cursor: z.string().max(300).optional().meta({ description: '`next_cursor` of the page before.' }),
        }),
        response: {
          200: z.object({ findings: z.array(Finding), next_cursor: z.string().nullable(), last_run: Run.nullable() }),
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request) => {
      const { kind = null, verdict = null, limit, cursor } = request.query;
      const [firstSeen, id] = openCursor(cursor, MOMENT, NUMBER) ?? [];
      const after = firstSeen === undefined ? null : { firstSeen, id: Number(id) };
      const [rows, run] = await Promise.all([listFindings(db, { kind, verdict, limit: limit + 1, after }), lastRun(db)]);
      const page = rows.slice(0, limit);
      const last = rows.length > limit ? page.at(-1)! : null;
      return {
        findings: page.map(({ place: _place, ...row }) => ({
          ...row,
          first_seen: row.first_seen.toISOString(),
          last_seen: row.last_seen.toISOString(),
          done_at: row.done_at?.toISOString() ?? null,
        })),
        next_cursor: last === null ? null : sealCursor(last.place, String(last.id)),
        last_run: run === null ? null : viewOf(run),
      };
    },
  );

  app.post(
    '/v1/admin/reconciliations',
    {
      config: { access: { scope: 'admin', on: 'service' } },
      schema: {
        tags: ['service'],
        summary: 'Compare database and cluster now; the answer names the comparison, which a processor makes',
        body: z.object({
          dry_run: z.boolean().default(false).meta({ description: 'Only tell what would be done.' }),
          idempotency_key: Key,
        }),
        response: { 202: Run, ...problems(400, 401, 403, 409, 503) },
      },
    },
    async (request, reply) => {
      const run = await actOnce(db, request, async (tx) => {
        const id = uuidv7();
        const { dry_run } = request.body;
        await requestRun(tx, { id, dryRun: dry_run, by: operatorOf(request) });
        await audit(tx, request, { action: 'reality.compare', object: `reality-run/${id}`, details: { dry_run } });
        return viewOf((await findRun(tx, id))!);
      });
      return reply.code(202).send(run);
    },
  );

  app.get(
    '/v1/admin/reconciliations/:id',
    {
      config: { access: { scope: 'admin', on: 'service' } },
      schema: {
        tags: ['service'],
        summary: 'One comparison of database and cluster, and what it found',
        params: z.object({ id: z.uuid() }),
        response: { 200: Run, ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request) => {
      const run = await findRun(db, request.params.id);
      if (run === null) throw new Problem('GPU_NOT_FOUND', `There is no comparison ${request.params.id}`, { field: 'id' });
      return viewOf(run);
    },
  );
}

function viewOf(run: RunRow): z.infer<typeof Run> {
  const { findings = [], left_out = 0, unanswered = [] } = run.report ?? {};
  return {
    id: run.id,
    status: run.ended_at !== null ? (run.error === null ? 'done' : 'failed') : run.started_at === null ? 'waiting' : 'running',
    dry_run: run.dry_run,
    asked_by: run.asked_by,
    requested_at: run.requested_at.toISOString(),
    ended_at: run.ended_at?.toISOString() ?? null,
    error: run.error,
    findings,
    left_out,
    unanswered,
  };
}
