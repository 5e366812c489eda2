/** Leases: roles that one process at a time plays. The token rises with every change of holder and fences the writes of a former one. */
import type { Store, Transaction } from './database.ts';

export const HOLD_LEASE = `insert into leases as l (name, holder, token, until) values ($1, $2, 1, now() + make_interval(secs => $3))
     on conflict (name) do update
       set holder = excluded.holder, until = excluded.until, token = l.token + case when l.holder = excluded.holder then 0 else 1 end
       where l.holder = excluded.holder or l.until < now()
     returning token`;

/**
 * Take the lease, or keep it.
 * @returns the fencing token, or null while another process holds it. The database's clock decides.
 */
export async function holdLease(db: Store, name: string, holder: string, seconds: number): Promise<number | null> {
  const { rows } = await db.query<{ token: number }>(HOLD_LEASE, [name, holder, seconds]);
  return rows[0]?.token ?? null;
}

export const DROP_LEASE = 'update leases set until = now() where name = $1 and holder = $2';

/** Give the lease up, so that another may take it at once. */
export async function dropLease(db: Store, name: string, holder: string): Promise<void> {
  await db.query(DROP_LEASE, [name, holder]);
}

/** The lease was lost: what was about to be written is out of date. */
export class LeaseLostError extends Error {
  override readonly name = 'LeaseLostError';
}

export const ASSERT_LEASE = 'select 1 from leases where name = $1 and token = $2 for share';

/**
 * Make sure, until the transaction ends, that the lease is still ours.
 * @throws LeaseLostError if it is not.
 */
export async function assertLease(tx: Transaction, name: string, token: number): Promise<void> {
  const { rowCount } = await tx.query(ASSERT_LEASE, [name, token]);
  if (rowCount === 0) throw new LeaseLostError(`The lease ${name} went to another process`);
}
