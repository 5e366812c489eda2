/**
 * Pods that bear the id of a reservation that has ended or ends, or of an earlier life of it. The proof is our own database: a life that is
 * being torn down never comes back. They come from a process that slept longer than its lease and then created a pod. A pod of a
 * reservation we do not know is left alone.
 */
import type { Database } from '../../persistence/database.ts';
import type { DevServers } from '../reservation/ports.ts';
import type { PodView } from './ports.ts';

/** States in which a reservation may have a pod that is wanted. It is committed before its pod is created. */
const WITH_POD = ['provisioning', 'running', 'extending'];

/**
 * Remove those of these pods that are orphans.
 * @returns names of the pods whose deletion was asked for.
 */
export async function removeOrphans(db: Database, servers: DevServers, pods: readonly PodView[]): Promise<string[]> {
  const ours = pods.filter((pod) => pod.server !== null && !pod.terminating);
  if (ours.length === 0) return [];
  const { rows } = await db.query<{ id: string; state: string; generation: number }>(
    `select substr(actor, 13) as id, state, (snapshot #>> '{context,generation}')::int as generation
       from actors where actor = any($1::text[]) and snapshot is not null`,
    [ours.map((pod) => `reservation/${pod.server!.reservationId}`)],
  );
  const known = new Map(rows.map((row) => [row.id, row]));
  const removed: string[] = [];
  for (const pod of ours) {
    const owner = known.get(pod.server!.reservationId);
    if (owner === undefined || (WITH_POD.includes(owner.state) && pod.server!.generation >= owner.generation)) continue;
    await servers.remove(pod.server!, { force: false });
    removed.push(pod.name);
  }
  return removed;
}
