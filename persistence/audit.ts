/** The audit log: who did what to what, from where. Rows are written in the transaction of what they tell. */
import type { Queryable, Transaction } from './database.ts';
import { storableJson } from './storable.ts';

export interface AuditEntry {
  /** User name of whoever acts. */
  actor: string;
  /** `http`, `queue:<name>`, `operator` or `service`. */
  door: string;
  /** What was done, as `noun.verb`. */
  action: string;
  /** What it was done to, as `kind/id`. */
  object: string;
  /** More; without secrets. */
  details?: Record<string, unknown>;
  address?: string | null;
  requestId?: string | null;
  keyPrefix?: string | null;
}

export const RECORD_AUDIT = `
  insert into audit_log (actor, door, action, object, details, address, request_id, key_prefix)
  select actor, door, action, object, details::jsonb, address, request_id, key_prefix
    from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
      as a(actor, door, action, object, details, address, request_id, key_prefix)`;

/** Write rows that commit with the transaction, all with one statement. */
export async function recordAudit(tx: Transaction | Queryable, entries: AuditEntry | readonly AuditEntry[]): Promise<void> {
  const rows = Array.isArray(entries) ? (entries as readonly AuditEntry[]) : [entries as AuditEntry];
  if (rows.length > 0) await tx.query(RECORD_AUDIT, recordAuditValues(rows));
}

/** The values of {@link RECORD_AUDIT}. */
export function recordAuditValues(rows: readonly AuditEntry[]): unknown[] {
  return [
    rows.map((row) => row.actor),
    rows.map((row) => row.door),
    rows.map((row) => row.action),
    rows.map((row) => row.object),
    rows.map((row) => storableJson(row.details ?? {})),
    rows.map((row) => row.address ?? null),
    rows.map((row) => row.requestId ?? null),
    rows.map((row) => row.keyPrefix ?? null),
  ];
}
