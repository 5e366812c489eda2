/** What the audit log says of an accepted message. */
import { type AuditEntry, RECORD_AUDIT, recordAuditValues } from '../../persistence/audit.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { ParsedCreate } from './create.ts';
import type { Accepted, Sender } from './doors.ts';
import { type Action, CreateMessage, DiskMessages, EventMessage } from './messages.ts';

/** Fields of messages that tell what was asked, and hold no secrets. */
const TOLD = [
  'extension_hours',
  'github_username',
  'disk_name',
  'source_disk',
  'target_disk',
  'new_name',
  'snapshot_id',
  'size_gb',
];

/** The row of a message that was accepted. @param owner whose thing it is, if that is known by now */
export function entryOf(action: Action, body: unknown, accepted: Accepted, sender: Sender, owner: string | null): AuditEntry {
  const message = (body ?? {}) as Record<string, unknown>;
  const named = typeof message['user_id'] === 'string' ? message['user_id'] : null;
  const checked = checkedFields(action);
  const told: Record<string, unknown> = Object.fromEntries(
    TOLD.flatMap((field) => (Object.hasOwn(checked, field) && message[field] != null ? [[field, message[field]]] : [])),
  );
  const disk = action.does === 'disk' ? String(told['target_disk'] ?? told['disk_name'] ?? '') : '';
  return {
    ...sentBy(sender, named, owner),
    action: action.does === 'disk' ? `disk.${action.action.replace(/_disk$/, '')}` : `reservation.${verbOf(action)}`,
    object: action.does === 'disk' ? `disk/${owner ?? named ?? ''}/${disk}` : `reservation/${accepted.reservationId}`,
    details: {
      ...told,
      ...forWhom(sender, named, owner),
      ...(accepted.operationId === null ? {} : { operation: accepted.operationId }),
      key: accepted.key,
    },
  };
}

/** Fields that messages of an action are checked for: of the others nobody knows what they hold. */
function checkedFields(action: Action): object {
  if (action.does === 'create') return CreateMessage.shape;
  return action.does === 'disk' ? DiskMessages[action.action].shape : EventMessage[action.action].shape;
}

/** The row of a create. */
export function entryOfCreate(id: string, { owner, request }: ParsedCreate, sender: Sender): AuditEntry {
  const { gpuType: type, gpuCount: count, durationHours: hours } = request;
  return {
    ...sentBy(sender, owner, owner),
    action: 'reservation.create',
    object: `reservation/${id}`,
    details: { type, count, hours, ...forWhom(sender, owner, owner) },
  };
}

/** Write rows with the transaction, and wait for nothing. */
export function sendAudit(tx: Transaction, entries: readonly AuditEntry[]): void {
  if (entries.length > 0) tx.send(RECORD_AUDIT, recordAuditValues(entries));
}

function verbOf(action: Action): string {
  return action.does === 'event' ? action.action : 'create';
}

function sentBy({ door, by }: Sender, named: string | null, owner: string | null) {
  if (by === undefined) return { actor: named ?? owner ?? '', door };
  return { actor: by.user, door, address: by.address, requestId: by.requestId, keyPrefix: by.keyPrefix };
}

/** A queue's message without a user acts as the owner; somebody else may act for them. */
function forWhom({ by }: Sender, named: string | null, owner: string | null): Record<string, unknown> {
  if (by === undefined) return named === null ? { as_owner: true } : {};
  const whom = owner ?? named;
  return whom === null || whom === by.user ? {} : { for: whom };
}
