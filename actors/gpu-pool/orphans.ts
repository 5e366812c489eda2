/**
 * Pods that bear the id of a reservation that has ended or ends, or of an earlier life of it. The proof is our own database: a life that is
 * being torn down never comes back. They come from a process that slept longer than its lease and then created a pod. A pod of a
 * reservation we do not know is left alone.
 */
import type { Store } from '../../persistence/database.ts';
import type { DevServers } from '../reservation/ports.ts';
import { eachOf } from './parallel.ts';
import type { PodView } from './ports.ts';

/** States after which it has none any more. */
const ENDING = ['snapshotting', 'expired', 'failed', 'cancelled'];

export const OWNERS = `select substr(actor, 13) as id, state, (snapshot #>> '{context,generation}')::int as generation
       from actors where actor = any($1::text[]) and snapshot is not null`;

/**
 * Remove those of these pods that are orphans, a few at a time.
 * @param onError told of each pod that could not be removed; the others are
 * @returns names of the pods whose deletion was asked for.
 * @throws the database's error
 */
export async function removeOrphans(
  db: Store,
  servers: DevServers,
  pods: readonly PodView[],
  onError: (error: unknown) => void,
): Promise<string[]> {
  const ours = pods.filter((pod) => pod.server !== null && !pod.terminating);
  if (ours.length === 0) return [];
  const { rows } = await db.query<{ id: string; state: string; generation: number }>(OWNERS, [
    ours.map((pod) => `reservation/${pod.server!.reservationId}`),
  ]);
  const known = new Map(rows.map((row) => [row.id, row]));
  const orphans = ours.filter(({ server }) => {
    const owner = known.get(server!.reservationId);
    // A life that is not over, though no pod of it was ever asked for, is one that our database has forgotten, as a restored backup does.
    return owner !== undefined && (ENDING.includes(owner.state) || server!.generation < owner.generation);
  });
  const removed: string[] = [];
  const remove = async (pod: PodView) => {
    await servers.remove(pod.server!, { force: false });
    removed.push(pod.name);
  };
  await eachOf(orphans, remove, onError);
  return removed;
}
