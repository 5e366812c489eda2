/**
 * Names and ways whose owner has ended, and which stay on record because nobody has proven them gone: whoever was to withdraw them has given up
 * for good. Once they are gone, whoever took them away, they are forgotten, and the name is free.
 */
import type { Store } from '../../persistence/database.ts';
import { eachOf } from '../gpu-pool/parallel.ts';
import { nameGone } from '../reservation/published-names.ts';
import { ROUTE_GONE } from '../reservation/routes.ts';
import type { FoundObject, Kind, Reality } from './ports.ts';

/** One name, or one way (by its target group), that is on record. */
export interface Abandoned {
  id: string;
  kind: 'NameRecord' | 'TargetGroup';
  name: string;
}

const ABANDONED = `select m.reservation_id as id, 'NameRecord' as kind, m.fqdn as name
       from domain_mappings m join actors a on a.actor = 'reservation/' || m.reservation_id
      where a.status = 'done' and m.fqdn is not null and m.zone <> '*'
     union all
     select g.reservation_id, 'TargetGroup', g.jupyter_target_group_arn
       from alb_target_groups g join actors a on a.actor = 'reservation/' || g.reservation_id
      where a.status = 'done' and g.jupyter_target_group_arn is not null`;

/** Read before anything is listed. @throws the database's error */
export async function readAbandoned(db: Store): Promise<Abandoned[]> {
  return (await db.query<Abandoned>(ABANDONED, [])).rows;
}

/** Forget those that no complete list has, and that are not there when they are asked for by name. @throws nothing: `onError` is told */
export async function forgetGone(
  db: Store,
  abandoned: readonly Abandoned[],
  lists: ReadonlyMap<Kind, readonly FoundObject[]>,
  { reality, isOver, onError }: { reality: Reality; isOver: () => boolean; onError: (error: unknown) => void },
): Promise<void> {
  const suspects = abandoned.filter(({ kind, name }) => lists.get(kind)?.some((object) => object.name === name) === false);
  const forget = async ({ id, kind, name }: Abandoned) => {
    if (isOver() || !(await reality.isGone(kind, name))) return;
    if (kind === 'NameRecord') await nameGone(db, id, name);
    else await db.query(ROUTE_GONE, [id]);
  };
  await eachOf(suspects, forget, onError);
}
