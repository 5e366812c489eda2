/**
 * Servers that run and that the database does not know: it is new, or older than they are. Their GPUs are in use, whatever the ledger says, so
 * nothing new is given on their nodes until they are known or somebody has looked.
 */
import { randomUUID } from 'node:crypto';
import type { Kernel } from '../../actors/kernel/kernel.ts';
import { drainNode, typeOfNode, undrainNode } from '../../persistence/maintenance.ts';
import type { Database } from '../../persistence/database.ts';
import type { Logger } from 'pino';
import type { FoundServer, Remains } from './ports.ts';

/** Who closes nodes for survivors. */
const BY = 'rebuild';
const REASON = 'A server runs there that this database does not know: see gpu-dev admin rebuild --dry-run';

const KNOWN = `select substr(actor, 13) as id from actors where actor = any($1::text[])`;
const CLOSED = `select node from node_drains where drained_by = $1 order by node`;
const DRAINED = `select node from node_drains`;

async function unknownOf(db: Database, servers: readonly FoundServer[]): Promise<FoundServer[]> {
  const { rows } = await db.query<{ id: string }>(KNOWN, [servers.map(({ reservationId }) => `reservation/${reservationId}`)]);
  const known = new Set(rows.map(({ id }) => id));
  return servers.filter(({ reservationId }) => !known.has(reservationId));
}

/**
 * Close the nodes of servers that the database does not know. What an operator has closed keeps his reason.
 * @returns their pods
 */
export async function closeNodes(db: Database, servers: readonly FoundServer[]): Promise<string[]> {
  const unknown = await unknownOf(db, servers);
  const drained = new Set((await db.query<{ node: string }>(DRAINED, [])).rows.map(({ node }) => node));
  const nodes = new Set(unknown.flatMap(({ node }) => (node === null || drained.has(node) ? [] : [node])));
  await db.withTransaction(async (tx) => {
    for (const node of nodes) await drainNode(tx, { node, reason: REASON, by: BY });
  });
  return unknown.map(({ pod }) => pod);
}

/** At the first start of a database: if the cluster has servers of an earlier one, their nodes are closed and an operator is told. */
export async function holdSurvivors(
  db: Database,
  remains: Remains | undefined,
  log: Pick<Logger, 'error' | 'warn'>,
): Promise<void> {
  if (remains === undefined) return;
  try {
    const pods = await closeNodes(db, await remains.servers());
    if (pods.length === 0) return;
    log.error(
      { pods },
      'servers run that this database does not know. Nothing new is given on their nodes. Was the database lost? See gpu-dev admin rebuild --dry-run',
    );
  } catch (error) {
    log.warn({ err: error }, 'the cluster did not say at the first start which servers run there');
  }
}

/** Open those nodes again whose servers are all known now. @returns those that stay closed */
export async function releaseNodes(
  { db, kernel }: { db: Database; kernel: Pick<Kernel, 'post'> },
  servers: readonly FoundServer[],
  { dryRun }: { dryRun: boolean },
): Promise<string[]> {
  const unknown = new Set((await unknownOf(db, servers)).map(({ node }) => node));
  const closed = (await db.query<{ node: string }>(CLOSED, [BY])).rows.map(({ node }) => node);
  if (dryRun) return closed;
  const stay = closed.filter((node) => unknown.has(node));
  const open = closed.filter((node) => !unknown.has(node));
  await db.withTransaction(async (tx) => {
    for (const node of open) {
      await undrainNode(tx, node);
      const type = await typeOfNode(tx, node);
      if (type === null) continue;
      const event = { type: 'nodes.changed', nodes: [node] } as { type: string };
      await kernel.post([{ actor: `gpu-pool/${type}`, key: `opened:${randomUUID()}`, event, sender: BY }], tx);
    }
  });
  return stay;
}
