/** Nodes as operators see them, and emptying one: nothing new is given there, and what is there goes on to its end. */
import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { lockSlots } from '../../actors/gpu-pool/ledger.ts';
import type { Transaction } from '../../persistence/database.ts';
import { type AdminNodeRow, drainNode, listNodes, typeOfNode, undrainNode } from '../../persistence/maintenance.ts';
import { Problem } from '../errors.ts';
import { ADMIN, audit, operatorOf, Reason } from './admin-act.ts';
import { NAME, openCursor, sealCursor } from './cursor.ts';
import type { HttpDeps, Server } from './deps.ts';
import { iso } from './disk-view.ts';
import { problems } from './problems.ts';

const NodeView = z
  .object({
    node: z.string(),
    gpu_type: z.string(),
    ready: z.boolean(),
    schedulable: z.boolean().meta({ description: 'Whether something new may be given there.' }),
    reason: z.string().nullable().meta({ description: 'Why not, as the cluster says.' }),
    slots: z.number().int(),
    held: z.number().int(),
    zone: z.string().nullable(),
    updated_at: z.string(),
    drained: z.object({ reason: z.string(), by: z.string(), at: z.string() }).nullable(),
    reservations: z
      .array(
        z.object({
          id: z.string(),
          user_id: z.string(),
          state: z.string(),
          slots: z.number().int(),
          expires_at: z.string().nullable(),
        }),
      )
      .meta({ description: 'Who is still on it, the first to end first.' }),
  })
  .meta({ description: 'A node, and who is on it.' });

function viewOf({ drain_reason, drained_by, drained_at, ...row }: AdminNodeRow): z.infer<typeof NodeView> {
  return {
    ...row,
    updated_at: row.updated_at.toISOString(),
    drained: drain_reason === null ? null : { reason: drain_reason, by: drained_by ?? '', at: iso(drained_at) ?? '' },
    reservations: row.reservations.map((each) => ({
      ...each,
      expires_at: each.expires_at === null ? null : new Date(each.expires_at).toISOString(),
    })),
  };
}

const ByNode = z.object({ node: z.string().min(1).max(253) });
const ANSWERS = { 200: NodeView, ...problems(400, 401, 403, 404, 415, 503) };

export function nodeRoutes(app: Server, { db, kernel }: HttpDeps): void {
  app.get(
    '/v1/admin/nodes',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Nodes, and who is on them',
        querystring: z.object({
          gpu_type: z.string().max(64).optional(),
          limit: z.coerce.number().int().min(1).max(500).default(100),
          cursor: z.string().max(600).optional(),
        }),
        response: {
          200: z.object({ nodes: z.array(NodeView), next_cursor: z.string().nullable() }),
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request) => {
      const { gpu_type, limit, cursor } = request.query;
      const after = openCursor(cursor, NAME)?.[0] ?? null;
      const rows = await listNodes(db, { gpuType: gpu_type?.toLowerCase() ?? null, after, limit: limit + 1 });
      const last = rows.length > limit ? rows[limit - 1]! : null;
      return { nodes: rows.slice(0, limit).map(viewOf), next_cursor: last === null ? null : sealCursor(last.node) };
    },
  );

  app.put(
    '/v1/admin/nodes/:node/drain',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Give nothing new on a node; the answer says who is still on it',
        description:
          'From the answer on nobody is given a slot there, whatever the cluster says of the node. It lasts until it is ended.',
        params: ByNode,
        body: z.strictObject({ reason: Reason }),
        response: ANSWERS,
      },
    },
    async (request) => {
      const { node } = request.params;
      const { reason } = request.body;
      await change(node, async (tx) => {
        if ((await typeOfNode(tx, node)) === null) throw noNode(node);
        await drainNode(tx, { node, reason, by: operatorOf(request) });
        await audit(tx, request, { action: 'node.drain', object: `node/${node}`, details: { reason } });
      });
      return mustView(node);
    },
  );

  app.delete(
    '/v1/admin/nodes/:node/drain',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Give on a node again; one that is not drained is fine',
        params: ByNode,
        response: { 200: NodeView.nullable(), ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request) => {
      const { node } = request.params;
      await change(node, async (tx) => {
        const was = await undrainNode(tx, node);
        // A node that is gone may still be on record as drained.
        if (!was && (await typeOfNode(tx, node)) === null) throw noNode(node);
        await audit(tx, request, { action: 'node.undrain', object: `node/${node}` });
      });
      return (await listNodes(db, { node, limit: 1 })).map(viewOf)[0] ?? null;
    },
  );

  /** Alone with the ledger, so that no grant under way knows it otherwise; then its pool plans anew. */
  async function change(node: string, write: (tx: Transaction) => Promise<void>): Promise<void> {
    const gpuType = await db.withTransaction(async (tx) => {
      await lockSlots(tx);
      await write(tx);
      const type = await typeOfNode(tx, node);
      if (type === null) return null;
      const event = { type: 'nodes.changed', nodes: [node] } as { type: string };
      await kernel.post([{ actor: `gpu-pool/${type}`, key: `drain:${uuidv7()}`, event, sender: 'http' }], tx);
      return type;
    });
    if (gpuType !== null) await kernel.pump(`gpu-pool/${gpuType}`);
    kernel.wake();
    kernel.wakeOthers();
  }

  async function mustView(node: string): Promise<z.infer<typeof NodeView>> {
    const [row] = await listNodes(db, { node, limit: 1 });
    if (row === undefined) throw noNode(node);
    return viewOf(row);
  }
}

function noNode(node: string): Problem {
  return new Problem('GPU_NODE_UNKNOWN', `There is no node ${node}`, { field: 'node' });
}
