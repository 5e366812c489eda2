/** Pods that vanished without anybody seeing them deleted: those told of lately, and those that wait for the word of an operator. */
import type { Database, Queryable } from './database.ts';

export interface VanishedRow {
  podUid: string;
  reservationId: string;
  missedAt: Date;
  /** Its reservation was told, within the time that was asked for. */
  told: boolean;
  /** The word by which it may be told of; null while there is none. */
  word: string | null;
}

const VANISHED = `
  select pod_uid as "podUid", reservation_id as "reservationId", missed_at as "missedAt",
         coalesce(told_at > now() - make_interval(secs => $1), false) as told, accepted_by || ': ' || reason as word
    from vanished_pods where told_at is null or told_at > now() - make_interval(secs => $1)`;

/** Those told of within these seconds, and those that wait. */
export async function readVanished(db: Queryable, seconds: number): Promise<VanishedRow[]> {
  return (await db.query<VanishedRow>(VANISHED, [seconds])).rows;
}

const WAIT = `
  with gone as (delete from vanished_pods where told_at is null and accepted_by is null and not (pod_uid = any($1::text[])))
  insert into vanished_pods (pod_uid, reservation_id)
  select * from unnest($1::text[], $2::text[])
  on conflict (pod_uid) do nothing`;

/** These wait for a word, and no others: what is seen again waits no more. */
export async function keepWaiting(db: Queryable, pods: readonly { uid: string; id: string }[]): Promise<void> {
  await db.query(WAIT, [pods.map(({ uid }) => uid), pods.map(({ id }) => id)]);
}

const TOLD = `
  with old as (delete from vanished_pods where told_at < now() - interval '1 day')
  insert into vanished_pods (pod_uid, reservation_id, told_at) values ($1, $2, now())
  on conflict (pod_uid) do update set told_at = coalesce(vanished_pods.told_at, now())`;

/** The reservation of this pod is told that it is gone. */
export async function noteTold(db: Queryable, pod: { uid: string; id: string }): Promise<void> {
  await db.query(TOLD, [pod.uid, pod.id]);
}

const ACCEPT = `
  update vanished_pods set accepted_by = $1, reason = $2 where told_at is null and accepted_by is null
  returning reservation_id as "reservationId"`;

/** All that wait may be told of, by the word of an operator. @returns their reservations */
export async function acceptVanished(db: Database, { by, reason }: { by: string; reason: string }): Promise<string[]> {
  const { rows } = await db.query<{ reservationId: string }>(ACCEPT, [by, reason]);
  return rows.map(({ reservationId }) => reservationId);
}
