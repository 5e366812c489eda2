/**
 * The line of a GPU type as people see it: places, reasons, and estimates. A reading costs what its first part costs, however long the line is:
 * a forecast of what lies a thousand starts ahead would tell nobody anything.
 */
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
  const starts = forecast(rows.nodes, holders, rows.waiting, now.getTime(), 3_600_000 / timeScale);
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

/** A place that was counted, from which on others can be. `at` is the time by which its holder stands in the line. */
export interface Mark {
  at: string;
  id: string;
  position: number;
}

const BEGINNING: Mark = { at: '-infinity', id: '', position: 0 };

// The line is counted once for all who are asked for, no farther than to the last of them, and only from the mark on. Written so that it is
// never planned as a comparison of everyone in the line with everyone who is asked for, whatever the statistics say of a new table: those who
// are asked for are looked up one by one, and found in the line by a hash table ("is true" keeps it from becoming a join).
export const PLACES = `
  with last as (select max(own.submitted_at) as submitted_at
                  from unnest($2::text[]) as asked(id)
                 cross join lateral (select c.submitted_at, c.gpu_type, c.status from capacity_requests c
                                      where c.reservation_id = asked.id offset 0) own
                 where own.gpu_type = $1 and own.status = 'waiting'),
       line as (select c.reservation_id as id, c.submitted_at,
                       $5::int + row_number() over (order by c.submitted_at, c.reservation_id)::int as position
                  from capacity_requests c
                 where c.gpu_type = $1 and c.status = 'waiting' and c.submitted_at <= (select submitted_at from last)
                   and (c.submitted_at, c.reservation_id) > ($3::timestamptz, $4::text))
  select line.id, line.position, line.submitted_at::text as at,
         (select own.waits_because from capacity_requests own where own.reservation_id = line.id) as because
    from line where (line.id in (select unnest($2::text[]))) is true order by line.position`;

/**
 * Places of these in the line of their type, without estimates, and the last of them as a mark. Those who do not wait for its capacity, or
 * stand before the mark, are not in the answer.
 * @param from counts from 1 at the beginning if left out; if given, who has left the line before it since it was made is still counted
 */
export async function readPlaces(
  db: Queryable,
  gpuType: string,
  ids: readonly string[],
  from: Mark = BEGINNING,
): Promise<{ places: Map<string, QueuePlace>; last: Mark | null }> {
  type Place = Mark & { because: string | null };
  const { rows } = await db.query<Place>(PLACES, [gpuType, ids, from.at, from.id, from.position]);
  const places = new Map(
    rows.map(({ id, position, because }) => [id, { position, estimatedStart: null, reason: reasonOf(position, because) }]),
  );
  return { places, last: rows.at(-1) ?? null };
}

function reasonOf(position: number, because: string | null): string | null {
  const others = position - 1;
  return because ?? (others === 0 ? null : `Behind ${others} ${others === 1 ? 'other' : 'others'} in the queue`);
}
