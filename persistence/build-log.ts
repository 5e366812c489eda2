/** What builds wrote. Lines come in without secrets: whoever reads them from the cluster takes those out. */
import type { Queryable } from './database.ts';
import { storableText } from './storable.ts';

export interface BuildLine {
  /** The line's own time, as the cluster tells it. */
  at: string;
  text: string;
}

/** Lines kept of one attempt, at most. */
export const MOST_LINES = 5_000;

const APPEND = `
  insert into build_lines (hash, attempt, at, n, line)
  select $1, $2, l.at, l.n, l.line
    from unnest($3::text[], $4::int[], $5::text[]) with ordinality as l(at, n, line, place)
   where (select count(*) from build_lines b where b.hash = $1 and b.attempt = $2) < $6::bigint
   order by l.place
  on conflict (hash, attempt, at, n) do nothing`;

/** Keep these lines; those that are kept already are known by their time. @returns how many were new. */
export async function appendLines(
  db: Queryable,
  { hash, attempt }: { hash: string; attempt: number },
  lines: readonly BuildLine[],
): Promise<number> {
  if (lines.length === 0) return 0;
  const seen = new Map<string, number>();
  const numbers = lines.map(({ at }) => {
    const n = seen.get(at) ?? 0;
    seen.set(at, n + 1);
    return n;
  });
  const { rowCount } = await db.query(APPEND, [
    hash,
    attempt,
    lines.map(({ at }) => at),
    numbers,
    lines.map(({ text }) => storableText(text) ?? ''),
    MOST_LINES,
  ]);
  return rowCount ?? 0;
}

/** The time of the newest line that is kept, or null. */
export async function lastLineAt(db: Queryable, hash: string, attempt: number): Promise<string | null> {
  const { rows } = await db.query<{ at: string }>(
    'select at from build_lines where hash = $1 and attempt = $2 order by id desc limit 1',
    [hash, attempt],
  );
  return rows[0]?.at ?? null;
}

export interface KeptLine {
  id: number;
  attempt: number;
  at: string;
  line: string;
}

/** Lines of a build after this one, oldest first, of its newest attempt that wrote any. */
export async function readLines(db: Queryable, hash: string, after: number, limit: number): Promise<KeptLine[]> {
  const { rows } = await db.query<KeptLine>(
    `select id, attempt, at, line from build_lines
      where hash = $1 and id > $2 and attempt = (select max(attempt) from build_lines where hash = $1)
      order by id limit $3`,
    [hash, after, limit],
  );
  return rows;
}
