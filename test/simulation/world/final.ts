/** What must hold when everything has come to its end: histories fold, nothing is left over, the read models agree. */
import { isDeepStrictEqual } from 'node:util';
import type { ActorKind, StampedEvent } from '../../../actors/kernel/kind.ts';
import { topState } from '../../../actors/kernel/revive.ts';
import { type LiveActor, takeTurn } from '../../../actors/kernel/turn.ts';
import type { ActorRow, EffectRow, HistoryRow, Tables } from '../store/schema.ts';
import type { Pods } from './pods.ts';
import type { Volumes } from './volumes.ts';

type Violated = (rule: string, what: string) => void;

/** Fold every history, with the effects and deadlines that its steps asked for. @returns how many events. */
export function foldAll(tables: Tables, kinds: ReadonlyMap<string, ActorKind>, violated: Violated): number {
  let events = 0;
  for (const row of tables.actors.everything(null)) {
    const kind = kinds.get(row.kind)!;
    const entries: HistoryRow[] = [];
    for (const slot of tables.history.group(row.actor)) entries.push(slot.value!);
    entries.sort((a, b) => a.seq - b.seq);
    const effects = new Map<string, EffectRow>();
    for (const slot of tables.effects.group(row.actor)) effects.set(slot.key, slot.value!);
    events += entries.length;
    foldOne(kind, row, entries, effects, violated);
    for (const id of effects.keys()) violated('no effect without its intent in history', id);
  }
  return events;
}

function foldOne(
  kind: ActorKind,
  row: ActorRow,
  entries: readonly HistoryRow[],
  effects: Map<string, EffectRow>,
  violated: Violated,
): void {
  let actor: LiveActor = { actor: row.actor, kind, seq: 0, stored: null, live: null };
  const deadlines = new Map<string, number>();
  for (const entry of entries) {
    if (entry.seq !== actor.seq + 1) violated('a history has no gaps', `${row.actor} jumps from ${actor.seq} to ${entry.seq}`);
    if (entry.outcome !== 'applied') {
      actor = { ...actor, seq: entry.seq };
      continue;
    }
    if (entry.sender === 'deadline') {
      const name = entry.event.type.slice('deadline.'.length);
      const set = deadlines.get(name);
      if (String(set) !== entry.key.slice(entry.key.lastIndexOf(':') + 1)) {
        violated(
          'a deadline that was moved or cleared does nothing',
          `${row.actor}: ${entry.key} was applied, it was set at ${set}`,
        );
      }
      deadlines.delete(name);
    }
    const mail = { id: 0, actor: entry.actor, key: entry.key, event: entry.event, sender: entry.sender, sentAt: null };
    const step = takeTurn(actor, mail, entry.event as StampedEvent);
    actor = step.actor;
    for (const [index, intent] of step.intents.entries()) {
      if (intent.do === 'deadline') deadlines.set(intent.name, actor.seq);
      else if (intent.do === 'clear') deadlines.delete(intent.name);
      else if (intent.do === 'effect') {
        const id = `${row.actor}:${actor.seq}:${index}`;
        const stored = effects.get(id);
        if (stored === undefined || !isDeepStrictEqual(stored.params, JSON.parse(JSON.stringify(intent.effect)))) {
          violated('no intent without its effect', id);
        }
        effects.delete(id);
      }
    }
  }
  if (actor.seq !== row.seq || !isDeepStrictEqual(actor.stored, row.snapshot)) {
    violated('every history folds to its snapshot', row.actor);
  }
}

/** What is still to be done; empty when all has come to its end. */
export function unfinished(tables: Tables, pods: Pods): string[] {
  const left: string[] = [];
  for (const row of tables.actors.rows(null)) {
    if (row.kind === 'reservation' && row.status !== 'done' && row.status !== 'unborn') {
      left.push(`${row.actor} is in ${JSON.stringify(row.snapshot?.value)}`);
    }
  }
  for (const mail of tables.mailbox.rows(null)) left.push(`mail ${mail.key} of ${mail.actor} waits${mail.held ? ', held' : ''}`);
  for (const effect of tables.effects.rows(null))
    left.push(`effect ${effect.effectId} (${effect.type}) is pending: ${effect.lastError}`);
  for (const message of tables.queues.rows(null)) left.push(`message ${message.msgId} of ${message.queue} waits`);
  for (const pod of pods.pods.values()) left.push(`pod ${pod.name} is there`);
  return left;
}

/** Nothing is left over, and what people read is what is. */
export function checkEnd(tables: Tables, pods: Pods, volumes: Volumes, violated: Violated): void {
  const alive = (id: string | null) => id !== null && tables.actors.get(`reservation/${id}`, null)?.status === 'active';
  const left = (what: string) => violated('nothing is left over', what);
  for (const slot of tables.slots.rows(null))
    if (slot.reservationId !== null) left(`slot ${slot.slot} of ${slot.node}: ${slot.reservationId}`);
  for (const request of tables.requests.rows(null)) left(`a place in the line of ${request.gpuType}: ${request.reservationId}`);
  for (const member of tables.gangMembers.rows(null)) left(`a member of gang ${member.gangId}: ${member.reservationId}`);
  for (const { name, reservationId } of tables.domains.rows(null))
    if (!alive(reservationId)) left(`the name ${name} of ${reservationId}`);
  for (const route of tables.routes.rows(null)) left(`the way to Jupyter of ${route.reservationId}`);
  for (const uid of pods.containers.keys()) left(`containers of pod ${uid}`);
  for (const name of pods.access.keys()) left(name);
  for (const disk of tables.disks.rows(null)) {
    if (disk.reservationId !== null) left(`disk ${disk.name} is held by ${disk.reservationId}`);
    const actor = tables.actors.get(`disk/${disk.diskId}`, null);
    const state = actor?.snapshot == null ? null : topState(actor.snapshot.value);
    if (state !== disk.state)
      violated('read models agree with snapshots', `disk ${disk.diskId} is ${state}, its row says ${disk.state}`);
    if (!['idle', 'deleted', 'purged', 'purging'].includes(disk.state)) left(`disk ${disk.name} in ${disk.state}`);
  }
  for (const [name, volume] of volumes.volumes) {
    const disk = tables.disks.get(volume.diskId, null);
    if (disk === null || disk.purgedAt !== null) left(`volume ${name}`);
  }
  for (const [name, { diskId }] of volumes.snapshots) {
    if (tables.diskSnapshots.get(name, null) === null) left(`snapshot ${name} of ${diskId}, which no row knows`);
  }
  for (const row of tables.actors.everything(null)) {
    if (row.kind !== 'reservation' || row.snapshot === null) continue;
    const read = tables.reservations.get(row.actor.slice('reservation/'.length), null);
    const context = row.snapshot.context as { expiresAt: string | null; outcome: { reason: string } | null };
    const agrees =
      read !== null &&
      read['status'] === topState(row.snapshot.value) &&
      read['expires_at'] === context.expiresAt &&
      read['failure_reason'] === (context.outcome?.reason ?? null);
    if (!agrees) violated('read models agree with snapshots', row.actor);
  }
}
