/**
 * Dev servers that run and that the database does not know: it is new, or older than they are. Their GPUs are in use, whatever the ledger says,
 * so they count as taken until they are known. No node is given before the first view of the cluster, and that one has them in it.
 */
import type { Store } from '../../persistence/database.ts';
import { OWNERS } from './orphans.ts';
import type { PodView } from './ports.ts';

/** Ids of the reservations of these that the database knows. @throws the database's error */
export async function knownServers(db: Store, pods: readonly PodView[]): Promise<Set<string>> {
  const ids = new Set(pods.flatMap(({ server }) => (server === null ? [] : [`reservation/${server.reservationId}`])));
  const { rows } = await db.query<{ id: string }>(OWNERS, [[...ids]]);
  return new Set(rows.map(({ id }) => id));
}
