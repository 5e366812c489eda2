/** A dead letter as answers show it, without how it was dealt with. */
import { z } from 'zod';
import { redact } from '../../actors/secret.ts';
import type { DeadLetterRow } from '../../persistence/dead-letters.ts';

export const Source = z.enum(['queue', 'mailbox', 'effect']);

/** Its fields. */
export const LETTER = {
  id: z.number().int(),
  source: Source,
  queue: z.string().nullable(),
  msg_id: z.number().int().nullable(),
  actor: z.string().nullable(),
  key: z.string().nullable(),
  code: z.string(),
  field: z.string().nullable(),
  reason: z.string(),
  created_at: z.string(),
  body: z.unknown().meta({ description: 'The message, with secrets masked.' }),
};

export function letterOf(row: DeadLetterRow) {
  return {
    id: row.id,
    source: row.source,
    queue: row.queue ?? null,
    msg_id: row.msg_id,
    actor: row.actor ?? null,
    key: row.key ?? null,
    code: row.code,
    field: row.field ?? null,
    reason: row.reason,
    created_at: row.created_at.toISOString(),
    body: redact(row.body) ?? null,
  };
}
