/** Which cluster this database commands. What another one lacks is no proof of anything. */
import type { Database, Queryable } from './database.ts';
import { forgetNodes } from './gpu-nodes.ts';

export interface ClusterRow {
  /** Of the namespace of the dev servers. */
  namespaceUid: string;
  /** Null until a service has met it. */
  namespace: string | null;
  /** Of kube-system; null where it may not be read. */
  systemUid: string | null;
  server: string | null;
  since: Date;
}

const PRESENT = `
  select namespace_uid as "namespaceUid", namespace, system_uid as "systemUid", server, since
    from cluster_identity where replaced_at is null`;

/** The cluster that this database commands; null if it never met one. */
export async function presentCluster(db: Queryable): Promise<ClusterRow | null> {
  return (await db.query<ClusterRow>(PRESENT)).rows[0] ?? null;
}

const MET = `
  insert into cluster_identity (namespace_uid, namespace, system_uid, server) values ($1, $2, $3, $4)
  on conflict ((true)) where replaced_at is null do update
     set namespace  = coalesce(cluster_identity.namespace, excluded.namespace),
         system_uid = coalesce(cluster_identity.system_uid, excluded.system_uid),
         server     = coalesce(cluster_identity.server, excluded.server)
   where cluster_identity.namespace_uid = excluded.namespace_uid`;

/**
 * A service has met this cluster. It becomes the one that this database commands if there is none yet; what was not known of the present one
 * is filled in; another one changes nothing.
 * @returns the one that this database commands
 */
export async function meetCluster(db: Queryable, met: Omit<ClusterRow, 'since'>): Promise<ClusterRow> {
  await db.query(MET, [met.namespaceUid, met.namespace, met.systemUid, met.server]);
  return (await presentCluster(db))!;
}

const REPLACE = 'update cluster_identity set replaced_at = now() where replaced_at is null and namespace_uid <> $1';
const ACCEPT = `
  insert into cluster_identity (namespace_uid, accepted_by, reason) values ($1, $2, $3)
  on conflict ((true)) where replaced_at is null do nothing`;

/**
 * From now on this database commands the cluster whose namespace of dev servers has this uid, by the word of an operator. What it knew of nodes
 * was of the one before: nothing is given until a tracker has seen this one, with what runs there.
 * @returns the one before it; null if there was none, or it is the same
 */
export async function acceptCluster(
  db: Database,
  namespaceUid: string,
  { by, reason }: { by: string; reason: string },
): Promise<ClusterRow | null> {
  return db.withTransaction(async (tx) => {
    const before = await presentCluster(tx);
    await tx.query(REPLACE, [namespaceUid]);
    await tx.query(ACCEPT, [namespaceUid, by, reason]);
    if (before?.namespaceUid === namespaceUid) return null;
    await forgetNodes(tx, 'not seen since another cluster was accepted');
    return before;
  });
}
