/** All that a database holds, as lines that can be compared with those of another run. */
import pg from 'pg';
import type { Database } from '../../persistence/database.ts';

/**
 * What differs between two runs by design, column by column: numbers that the server draws (a rolled back transaction leaves a gap), how often
 * an effect had to be taken over, secrets that a door draws, and moments of the server's clock where nothing is decided by them. Everything else must be equal, in every table there is.
 */
const BY_DESIGN: Readonly<Record<string, readonly string[]>> = {
  'public.mailbox': ['id'],
  'public.history': ['xact'],
  'public.quotas': ['set_at'],
  'public.quota_claims': ['claimed_at'],
  'public.audit_log': ['id', 'at'],
  'public.audit_pending': ['id'],
  'public.effects': ['takeovers'],
  'public.disks': ['created_at'],
  'public.secrets': ['created_at', 'value'],
  'public.build_contexts': ['created_at'],
  'public.dead_letters': ['id', 'created_at'],
  'public.domain_mappings': ['created_at', 'updated_at'],
  'public.capacity_requests': ['requested_at'],
  'public.gang_members': ['joined_at'],
  'public.operations': ['created_at', 'updated_at'],
  'public.gpu_types': ['created_at', 'updated_at'],
  'public.nodes': ['updated_at'],
  'pgmq.a_gpu_reservations': ['vt', 'enqueued_at', 'last_read_at', 'archived_at'],
};

/** Tables of tools, which no run writes. */
const OF_TOOLS = new Set(['public.pgmigrations', 'pgmq.notify_insert_throttle']);

/** The lines of each table, sorted. A waiting message carries its place among those of its sender to its actor. */
export async function dumpOf(db: Database): Promise<Map<string, string[]>> {
  const { rows: tables } = await db.query<{ schema: string; name: string }>(
    `select n.nspname as schema, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'r' and n.nspname in ('public', 'pgmq') order by 1, 2`,
    [],
  );
  const dump = new Map<string, string[]>();
  for (const { schema, name } of tables) {
    const table = `${schema}.${name}`;
    if (!OF_TOOLS.has(table)) dump.set(table, await linesOf(db, schema, name, BY_DESIGN[table] ?? []));
  }
  return dump;
}

async function linesOf(db: Database, schema: string, name: string, without: readonly string[]): Promise<string[]> {
  const PLACE = name === 'mailbox' ? 'row_number() over (partition by actor, sender order by id)' : '0';
  const { rows } = await db.query<{ line: string }>(
    `select (to_jsonb(t) - $1::text[] || jsonb_build_object('place', ${PLACE}))::text as line
       from ${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(name)} t order by 1`,
    [without],
  );
  return rows.map(({ line }) => line);
}

/** What one of two dumps has and the other has not, by table: the first few lines of each. */
export function differences(one: ReadonlyMap<string, string[]>, other: ReadonlyMap<string, string[]>): string[] {
  return [...new Set([...one.keys(), ...other.keys()])].flatMap((table) => {
    const [left, right] = [one.get(table) ?? [], other.get(table) ?? []];
    return [...beside(left, right, `- ${table}`), ...beside(right, left, `+ ${table}`)];
  });
}

const MOST_LINES = 5;

function beside(lines: readonly string[], others: readonly string[], mark: string): string[] {
  const counts = new Map<string, number>();
  for (const line of others) counts.set(line, (counts.get(line) ?? 0) + 1);
  const missing = lines.filter((line) => {
    const left = counts.get(line) ?? 0;
    counts.set(line, left - 1);
    return left <= 0;
  });
  return missing.slice(0, MOST_LINES).map((line) => `${mark}: ${line}`);
}
