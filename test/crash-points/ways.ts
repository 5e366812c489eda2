/** By which ways the events of the machines come in. */
import type { Case } from '../model/graph.ts';

/** The events that the handler of each effect may report, by its return or by its failure. */
export const RESULTS: Readonly<Record<string, readonly string[]>> = {
  'pod.create': ['pod.created', 'pod.createFailed'],
  'pod.remove': ['pod.gone', 'pod.unreachable', 'effect.failed'],
  'access.update': ['access.updated', 'access.failed'],
  'access.restore': ['pod.created', 'access.failed'],
  'access.remove': ['access.removed', 'effect.failed'],
  'notice.post': ['effect.failed'],
  'jupyter.start': ['jupyter.started', 'jupyter.failed'],
  'jupyter.stop': ['jupyter.stopped', 'jupyter.failed'],
  'name.publish': ['name.published', 'name.failed'],
  'name.withdraw': ['effect.failed'],
  'route.publish': ['route.published', 'route.failed'],
  'route.withdraw': ['effect.failed'],
  'volume.ensure': ['volume.ready', 'volume.failed'],
  'volume.detach': ['volume.detached', 'volume.failed'],
  'volume.delete': ['volume.deleted', 'volume.failed'],
  'volume.discard': ['volume.discarded', 'volume.failed'],
  'disk.purge': ['purge.done', 'volume.failed'],
  'snapshot.take': ['snapshot.complete', 'snapshot.failed'],
  // Which are to go is decided by rows, and these paths have none.
  'snapshots.remove': [],
  'image.build': ['build.succeeded', 'build.failed'],
  'image.cancel': [],
};

/** Results that no handler returns: the kind makes them of an effect that has failed for good. */
export const THROWN: ReadonlySet<string> = new Set(['pod.createFailed', 'volume.failed', 'effect.failed']);

/** What a user asks of an actor that lives: its queue, and the message that becomes this event. */
export const WISHES = new Map<string, (event: Case, target: { id: string; name: string; operation: string }) => Wish>([
  ['cancel', (event, { id }) => reservation('cancel', event, { reservation_id: id })],
  ['extend', (event, { id }) => reservation('extend', event, { reservation_id: id, extension_hours: event['hours'] })],
  [
    'add_user',
    (event, { id }) => reservation('add_user', event, { reservation_id: id, github_username: event['githubUsername'] }),
  ],
  [
    'remove_user',
    (event, { id }) => reservation('remove_user', event, { reservation_id: id, github_username: event['githubUsername'] }),
  ],
  ['enable_jupyter', (event, { id }) => reservation('enable_jupyter', event, { reservation_id: id })],
  ['disable_jupyter', (event, { id }) => reservation('disable_jupyter', event, { reservation_id: id })],
  ['disk.delete', (event, { name, operation }) => disk('delete_disk', event, name, operation)],
  ['disk.undelete', (event, { name, operation }) => disk('undelete_disk', event, name, operation)],
]);

export interface Wish {
  queue: 'gpu_reservations' | 'disk_operations';
  body: Record<string, unknown>;
  /** The key that the door gives it; null for that of the queue's message. */
  key: string | null;
}

const FAR = '2099-01-01T00:00:00Z';

function reservation(action: string, event: Case, fields: Record<string, unknown>): Wish {
  const user = typeof event['by'] === 'string' ? { user_id: event['by'] } : {};
  return { queue: 'gpu_reservations', body: { action, ...fields, ...user }, key: null };
}

function disk(action: string, event: Case, name: string, operation: string): Wish {
  const body = { action, user_id: event['by'], disk_name: name, operation_id: operation };
  return {
    queue: 'disk_operations',
    // A date that is past would be counted from the database's clock, and differ from run to run.
    body: action === 'delete_disk' ? { ...body, delete_date: FAR } : body,
    key: `op:${operation}`,
  };
}

/**
 * Transitions by results that no effect of these states brings. A removal is asked for on the way out, so in these states only the watch tells
 * that the pod is gone.
 */
export const WITHOUT_EFFECT: readonly string[] = [
  'reservation.provisioning --pod.gone[0] if ofThisLife--> reservation.snapshotting',
  'reservation.running --pod.gone[0] if ofThisLife--> reservation.snapshotting',
  'reservation.extending --pod.gone[0] if ofThisLife--> reservation.snapshotting',
];

/** A creation that still runs when it is taken back: a death there decides which of the two comes first, so the two runs may differ rightly. */
export const BY_TIMING: readonly string[] = ['reservation.provisioning.retreating --pod.created[0] if ofThisLife--> (stays)'];
