/** From two views of a pod to the events of its reservation. Pure; each fact has a key, so that telling it twice does nothing. */
import type { ReservationMessage } from '../../machines/reservation.events.ts';
import type { Message } from '../../persistence/mailbox.ts';
import type { PodView } from './ports.ts';

function tell(pod: PodView, fact: string, event: ReservationMessage): Message {
  return { actor: `reservation/${pod.server!.reservationId}`, key: `pod:${pod.uid}:${fact}`, event, sender: 'tracker' };
}

/** What changed between `before` (null: first sight) and `after`. Pods that are not dev servers tell nothing. */
export function podEvents(before: PodView | null, after: PodView): Message[] {
  if (after.server === null) return [];
  const { uid } = after;
  const { generation } = after.server;
  const messages: Message[] = [];
  const became = (is: (pod: PodView) => boolean) => is(after) && (before === null || !is(before));
  if (after.unschedulable !== null && after.unschedulable !== before?.unschedulable && after.node === null) {
    messages.push(
      tell(after, `unschedulable:${after.resourceVersion}`, {
        type: 'pod.unschedulable',
        generation,
        reason: after.unschedulable,
      }),
    );
  }
  if (became((pod) => pod.node !== null))
    messages.push(tell(after, 'scheduled', { type: 'pod.scheduled', generation, uid, node: after.node! }));
  // Told when it changes: an image that cannot be pulled is said at once, not when the limit ends.
  if (after.node !== null && !after.started && after.unreadyReason !== null && after.unreadyReason !== before?.unreadyReason) {
    const reason = after.unreadyReason;
    messages.push(tell(after, `waiting:${after.resourceVersion}`, { type: 'pod.waiting', generation, uid, reason }));
  }
  if (became((pod) => pod.started)) messages.push(tell(after, 'started', { type: 'pod.started', generation, uid }));
  for (const { container, restarts } of after.ooms) {
    const known = before?.ooms.some((oom) => oom.container === container && oom.restarts >= restarts) ?? false;
    if (!known)
      messages.push(tell(after, `oom:${container}:${restarts}`, { type: 'pod.oom', generation, uid, container, restarts }));
  }
  if (became((pod) => pod.death !== null))
    messages.push(tell(after, 'died', { type: 'pod.died', generation, uid, reason: after.death! }));
  else if (became((pod) => pod.ready))
    messages.push(tell(after, `ready:${after.resourceVersion}`, { type: 'pod.ready', generation, uid }));
  else if (before?.ready === true && !after.ready && !after.terminating) {
    const reason = after.unreadyReason ?? 'its probe fails';
    messages.push(tell(after, `unready:${after.resourceVersion}`, { type: 'pod.unready', generation, uid, reason }));
  }
  return messages;
}

/** The pod object is gone: the proof that frees its slots. */
export function podGone(pod: PodView, proof: string): Message[] {
  if (pod.server === null) return [];
  return [tell(pod, 'gone', { type: 'pod.gone', generation: pod.server.generation, proof })];
}
