/** The domain under which servers get names. It stands in the database, so that every process that takes turns says the same of it. */
import type { Queryable } from './database.ts';

const SERVE_DOMAIN = `
  insert into served_domain as s (domain) values ($1)
  on conflict (one) do update set domain = excluded.domain, updated_at = now() where s.domain <> excluded.domain`;

/**
 * Say under which domain servers get names from now on; null: none. Those that live keep what they were born with.
 * @throws the database's error
 */
export async function serveDomain(db: Queryable, domain: string | null): Promise<void> {
  if (domain === null) await db.query('delete from served_domain');
  else await db.query(SERVE_DOMAIN, [domain]);
}
