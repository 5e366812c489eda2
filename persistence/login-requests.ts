/** Signed requests that logged somebody in: each serves once. */
import type { Transaction } from './database.ts';

const SPEND_SIGNATURE = `
  with over as (delete from login_requests where expires_at < now() - interval '1 hour')
  insert into login_requests (signature_hash, expires_at) values ($1, $2) on conflict do nothing`;

/** Use a signature up. @returns false if it was used before */
export async function spendSignature(tx: Transaction, hash: string, until: Date): Promise<boolean> {
  return (await tx.query(SPEND_SIGNATURE, [hash, until])).rowCount === 1;
}
