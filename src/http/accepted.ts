/** Which user events a reservation accepts now, as its machine says. */
import type { AnyMachineSnapshot, AnyStateNode } from 'xstate';
import type { ActorKind } from '../../actors/kernel/kind.ts';
import { migrateSnapshot, revive } from '../../actors/kernel/revive.ts';
import type { UserEvent } from '../../machines/reservation.events.ts';
import type { ReservationRow } from '../../persistence/reservations.ts';

/** What a user may send, in the order of need. */
export const USER_EVENTS = ['cancel', 'extend', 'add_user', 'remove_user', 'enable_jupyter', 'disable_jupyter'] as const;
export type UserEventType = UserEvent['type'];

/** What is accepted in the states of a kind, whatever the context; null where a guard decides. */
const known = new WeakMap<ActorKind, Map<string, readonly UserEventType[] | null>>();

type Row = Pick<ReservationRow, 'user_id' | 'machine_version' | 'snapshot' | 'is_quarantined' | 'secondary_users'>;

/** The user events that the machine accepts in this snapshot; none if it is quarantined, cannot be revived, or has ended. */
export function acceptedBy(row: Row, kind: ActorKind | undefined): UserEventType[] {
  const { snapshot, machine_version: version } = row;
  if (kind === undefined || snapshot === null || version === null || snapshot.status !== 'active') return [];
  // An operator sees it in the dead letters and in the metrics; here it takes nothing.
  if (row.is_quarantined) return [];
  const states = known.get(kind) ?? new Map<string, readonly UserEventType[] | null>();
  known.set(kind, states);
  const value = version === kind.version ? JSON.stringify(snapshot.value) : null;
  const always = value === null ? null : (states.get(value) ?? null);
  if (always !== null) return [...always];
  try {
    const live = revive(kind, migrateSnapshot(kind, snapshot, version));
    if (value !== null && !states.has(value)) states.set(value, acceptedAlways(live));
    return USER_EVENTS.filter((type) => live.can(sample(type, row)));
  } catch {
    return [];
  }
}

/** The user events that are accepted in the state of this snapshot, whatever its context; null if that depends on it. */
function acceptedAlways({ _nodes: nodes }: AnyMachineSnapshot): UserEventType[] | null {
  const answers = USER_EVENTS.map((type) => [type, isAccepted(nodes, type)] as const);
  if (answers.some(([, isIt]) => isIt === null)) return null;
  return answers.filter(([, isIt]) => isIt).map(([type]) => type);
}

function isAccepted(nodes: readonly AnyStateNode[], type: UserEventType): boolean | null {
  const ways = nodes.flatMap(({ transitions }) =>
    [...transitions].flatMap(([descriptor, those]) => (descriptor === type || descriptor.includes('*') ? those : [])),
  );
  if (ways.length === 0) return false;
  // Taken without doing anything, it would be forbidden.
  const allDo = ways.every(({ target, actions }) => target !== undefined || actions.length > 0);
  return allDo && ways.some(({ guard }) => guard === undefined) ? true : null;
}

/** The smallest event of a type; what its owner could send. */
function sample(type: UserEventType, row: Row) {
  const common = { by: row.user_id, at: new Date().toISOString() };
  switch (type) {
    case 'extend':
      return { type, ...common, hours: 1 / 12 };
    case 'add_user':
      return { type, ...common, githubUsername: 'somebody-new' };
    case 'remove_user':
      return { type, ...common, githubUsername: row.secondary_users[0] ?? 'nobody' };
    case 'cancel':
    case 'enable_jupyter':
    case 'disable_jupyter':
      return { type, ...common };
  }
}
