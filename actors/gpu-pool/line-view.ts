/**
 * The line of a GPU type as people see it: places, reasons, and estimates. A reading costs what its first part costs, however long the line is:
 * a forecast of what lies a thousand starts ahead would tell nobody anything.
 */
import { setImmediate as nextTick } from 'node:timers/promises';
import type { Queryable } from '../../persistence/database.ts';
import { readHolders, readPool } from './capacity.ts';
import { forecast } from './forecast.ts';

/** How many of a line get an estimate. */
export const ESTIMATED = 1_000;

/** Place in the line of a type, and when a start may be expected. */
export interface QueuePlace {
  position: number;
  /** ISO 8601; null if no known end leads to a start, or too many stand before. */
  estimatedStart: string | null;
  reason: string | null;
}

/**
 * The first {@link ESTIMATED} of the line of one GPU type, with an estimate for each from the known ends on nodes that fit.
 * @param timeScale how many times faster than the calendar reserved hours run.
 */
export async function queueView(
  db: Queryable,
  gpuType: string,
  timeScale = 1,
  estimated = ESTIMATED,
): Promise<Map<string, QueuePlace>> {
  const [rows, holders, { rows: state }] = await Promise.all([
    readPool(db, gpuType, estimated),
    readHolders(db, gpuType),
    db.query<{ now: Date; maintenance: boolean; until: Date | null; allowed: string[] | null }>(
      `select now() as now, m.gpu_type is not null as maintenance, m.until_at as until, m.allowed_users as allowed
         from (values ($1)) as asked(gpu_type)
         left join maintenance m on m.gpu_type = asked.gpu_type and m.from_at <= now()`,
      [gpuType],
    ),
  ]);
  const { now, maintenance, until, allowed } = state[0]!;
  // Milliseconds each: others may have the processor between.
  await nextTick();
  const starts = forecast(rows.nodes, holders, rows.waiting, now.getTime(), 3_600_000 / timeScale);
  await nextTick();
  return new Map(
    rows.waiting.map((request, index) => {
      const known = starts.get(request.reservationId) ?? null;
      // Nobody whom maintenance concerns starts before it ends.
      const concerned = maintenance && allowed?.includes(request.owner) !== true;
      const start = known === null || !concerned ? known : until === null ? null : Math.max(known, until.getTime());
      const estimatedStart = start === null ? null : new Date(start).toISOString();
      const position = index + 1;
      return [request.reservationId, { position, estimatedStart, reason: reasonOf(position, request.waitsBecause) }];
    }),
  );
}

// The line is counted once for all who are asked for, from its end to the first of them: most who ask have just joined it. How many wait in all
// is kept beside it. Written so that it is never planned as a comparison of everyone in the line with everyone who is asked for, whatever the
// statistics say of a new table: those who are asked for are looked up one by one, and found in the line by a hash table ("is true" keeps it
// from becoming a join).
export const PLACES = `
  with first as (select min(own.submitted_at) as submitted_at
                   from unnest($2::text[]) as asked(id)
                  cross join lateral (select c.submitted_at, c.gpu_type, c.status from capacity_requests c
                                       where c.reservation_id = asked.id offset 0) own
                  where own.gpu_type = $1 and own.status = 'waiting'),
       line as (select c.reservation_id as id, row_number() over (order by c.submitted_at desc, c.reservation_id desc)::int as from_end
                  from capacity_requests c
                 where c.gpu_type = $1 and c.status = 'waiting' and c.submitted_at >= (select submitted_at from first))
  select line.id, (select waiting from line_lengths where gpu_type = $1)::int - line.from_end + 1 as position,
         (select own.waits_because from capacity_requests own where own.reservation_id = line.id) as because
    from line where (line.id in (select unnest($2::text[]))) is true order by line.from_end desc`;

/** Places of these in the line of their type, counted from 1, without estimates. Those who do not wait for its capacity are not in the answer. */
export async function readPlaces(db: Queryable, gpuType: string, ids: readonly string[]): Promise<Map<string, QueuePlace>> {
  type Place = { id: string; position: number; because: string | null };
  const { rows } = await db.query<Place>(PLACES, [gpuType, ids]);
  return new Map(
    rows.map(({ id, position, because }) => [id, { position, estimatedStart: null, reason: reasonOf(position, because) }]),
  );
}

function reasonOf(position: number, because: string | null): string | null {
  const others = position - 1;
  return because ?? (others === 0 ? null : `Behind ${others} ${others === 1 ? 'other' : 'others'} in the queue`);
}
