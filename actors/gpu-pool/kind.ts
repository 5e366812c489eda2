/** The GPU pool as a kind of actor. Its `prepare` runs the planner over rows and puts the decision into the event that history keeps. */
import { type PoolDecision, PoolEvent } from '../../machines/gpu-pool.events.ts';
import { intentsOfPool, type PoolContext, poolMachine } from '../../machines/gpu-pool.machine.ts';
import type { StoredSnapshot } from '../../persistence/actor-store.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { ActorKind, Gathered, StampedEvent, Turn } from '../kernel/kind.ts';
import { countLine, hasGangBeyond, type Left, type PoolRows, readPool, writeAvailability, writeReasons } from './capacity.ts';
import { joinGang, leaveGang } from './gangs.ts';
import { addRequests, grantSlots, type Requested, releaseEnded, releaseSlots, shareSlots } from './ledger.ts';
import { maintenanceAfter, maintenanceBefore, tellMaintenance, wordsFor, writeMaintenance } from './maintenance.ts';
import { type Plan, plan } from './planner.ts';

type Message = PoolEvent & { at: string };

function nothing(): PoolDecision {
  return { grants: [], refusals: [], gangComplete: [], gangBroken: [], extension: null };
}

/** The kind `gpu-pool`; its ids are GPU types. */
export function poolKind(): ActorKind {
  return {
    kind: 'gpu-pool',
    version: 3,
    machine: poolMachine,
    events: PoolEvent,
    birth: 'pool.opened',
    input: (event) => ({ gpuType: event['gpuType'] }),
    intents: (action, context, event) => intentsOfPool(action, context, event as never),
    effects: null,
    migrations: { 1: withMaintenance, 2: withPlan },
    context: null,
    handlers: {},
    gather: async (tx, messages) => gatherRequests(tx, messages),
    prepare: async (tx, event, turn) => prepare(tx, event as unknown as Message, turn) as Promise<StampedEvent>,
  };
}

/** Version 1 knew that it was paused and why. */
function withMaintenance(old: StoredSnapshot): StoredSnapshot {
  const context = old.context as { pausedBecause: string | null };
  const reason = context.pausedBecause;
  const maintenance = reason === null ? null : { reason, by: 'an operator', from: EPOCH, until: null, allowed: [] };
  return { ...old, context: { ...context, maintenance } };
}

/** Version 2 did not know how far it had looked. */
function withPlan(old: StoredSnapshot): StoredSnapshot {
  return { ...old, context: { ...(old.context as object), planned: null } };
}

const EPOCH = '1970-01-01T00:00:00.000Z';

/**
 * Put requests into their queues together. One of which another message tells as well has its own place in the order of the messages.
 * @returns the reservations whose requests are in
 */
function gatherRequests(tx: Transaction, messages: readonly Gathered[]): ReadonlySet<string> {
  const events = messages.map(({ id, event }) => ({ gpuType: id, event: event as PoolEvent & { reservationId?: string } }));
  const told = new Map<string | undefined, number>();
  for (const { event } of events) told.set(event.reservationId, (told.get(event.reservationId) ?? 0) + 1);
  const alone = events.filter(({ event }) => event.type === 'capacity.requested' && told.get(event.reservationId) === 1);
  if (alone.length > 0) addRequests(tx, alone as { gpuType: string; event: Requested }[]);
  return new Set(alone.map(({ event }) => event.reservationId!));
}

async function prepare(tx: Transaction, event: Message, turn: Turn): Promise<Message> {
  const gpuType = turn.id;
  if (event.type === 'pool.opened') return event;
  const decision = { ...nothing(), planned: behindPlan(event, turn.snapshot) };
  switch (event.type) {
    case 'capacity.requested':
      if (!(turn.gathered as ReadonlySet<unknown>).has(event.reservationId)) addRequests(tx, [{ gpuType, event }]);
      break;
    case 'capacity.withdrawn':
      await releaseSlots(tx, event.reservationId, null);
      break;
    case 'capacity.returned':
      await releaseSlots(tx, event.reservationId, event.generation);
      break;
    case 'gang.joined':
      Object.assign(decision, await joinGang(tx, gpuType, event));
      break;
    case 'gang.left':
      decision.gangBroken = await leaveGang(tx, event);
      break;
    case 'extension.asked':
      decision.extension = await decideExtension(tx, event.reservationId, turn.snapshot);
      break;
    case 'deadline.refresh':
      await releaseEnded(tx, gpuType);
      break;
    case 'pool.paused':
    case 'pool.resumed':
    case 'deadline.maintenanceEnds':
      writeMaintenance(tx, gpuType, event);
      break;
    case 'deadline.maintenanceBegins':
    case 'nodes.changed':
      break;
  }
  // One plan a turn is enough: what earlier messages of this turn changed is in the rows.
  if (turn.last && decision.planned !== null) countLine(tx, gpuType);
  else if (turn.last) {
    const maintenance = maintenanceAfter(event, turn.snapshot);
    const { planned, left, waiting, all, plannedTo } = await serveLine(tx, gpuType, maintenance?.allowed ?? null, event.at);
    decision.grants = planned.grants.map(({ reservationId, generation, node, slots, zone }) => ({
      reservationId,
      generation,
      grant: { node, slots, zone },
    }));
    decision.planned = plannedTo === null || maintenance !== null ? null : { to: plannedTo, at: event.at };
    writeAvailability(tx, gpuType, left, maintenance?.reason ?? null, event.at);
    // Under maintenance the line is that of a few; the others are told all together.
    writeReasons(tx, gpuType, { waiting, all: all || maintenance !== null }, planned.waits);
    if (maintenance !== null) tellMaintenance(tx, gpuType, maintenance);
  }
  return { ...event, decision };
}

/** How long a plan counts, in milliseconds: what changes a plan comes to the pool as a message, but not all of it does (the place of a disk). */
const PLAN_COUNTS_MS = 1_000;

/**
 * The last plan, if this event changes nothing of it: of a line in which somebody does not fit only the first part is read, and who joins
 * behind that would not be looked at.
 * @returns null if there must be a plan
 */
function behindPlan(event: Message, snapshot: StoredSnapshot | null): PoolContext['planned'] {
  const { planned = null } = (snapshot?.context ?? {}) as Partial<PoolContext>;
  // A gang is complete with its last member, and may have its first in front.
  if (planned === null || event.type !== 'capacity.requested' || event.gang !== null) return null;
  const age = Date.parse(event.at) - Date.parse(planned.at);
  const counts = age >= 0 && age < PLAN_COUNTS_MS;
  return counts && Date.parse(event.submittedAt) > Date.parse(planned.to) ? planned : null;
}

/** How much of the line is read at first: in strict order the plan seldom gets further. */
const FIRST_PORTION = 16;

/** Plans a turn may need while somebody changes the ledger beside us. */
const PLANS = 5;

/** A plan, and what it leaves. */
interface Decided {
  planned: Plan;
  left: Left;
  /** Those who still wait, as far as the line was read; `all` if that is the whole line. */
  waiting: PoolRows['waiting'];
  all: boolean;
  /** The submission of the last that was read; null if that is the whole line. */
  plannedTo: string | null;
}

/** Plan, and grant what is planned. @param only the users who are served; null: all */
async function serveLine(tx: Transaction, gpuType: string, only: readonly string[] | null, at: string): Promise<Decided> {
  shareSlots(tx);
  for (let round = 1; ; round++) {
    const decided = await planOnce(tx, gpuType, only);
    if (await grantSlots(tx, decided.planned.grants, at)) return decided;
    if (round < PLANS) continue;
    // Nobody loses a message: the refresh plans again.
    const nothingFits = decideBy(await readPool(tx, gpuType, 0), true);
    return { ...nothingFits, planned: { grants: [], waits: [], blocked: true } };
  }
}

/** Plan as far into the line as it takes to meet somebody who does not fit. */
async function planOnce(tx: Transaction, gpuType: string, only: readonly string[] | null): Promise<Decided> {
  const nobody = only?.length === 0;
  for (let portion = FIRST_PORTION; ; portion *= 8) {
    const rows = await readPool(tx, gpuType, nobody ? 0 : portion, only);
    const all = nobody || rows.waiting.length < portion;
    const decided = decideBy(rows, all);
    if (all || (decided.planned.blocked && !(await hasGangBeyond(tx, rows)))) return decided;
  }
}

function decideBy(rows: PoolRows, all: boolean): Decided {
  const nodes = rows.nodes.map((node) => ({ ...node, free: [...node.free] }));
  const planned = plan(nodes, rows.waiting, rows.gangsGranted, rows.shut);
  const granted = new Set(planned.grants.map((grant) => grant.reservationId));
  const held = rows.held + planned.grants.reduce((sum, grant) => sum + grant.slots.length, 0);
  return {
    planned,
    left: { nodes, total: rows.total, held },
    waiting: rows.waiting.filter((request) => !granted.has(request.reservationId)),
    all,
    plannedTo: all ? null : new Date(rows.waiting.at(-1)!.submittedAt).toISOString(),
  };
}

export const GRANTED_NODE = `select r.owner, r.node, n.schedulable, n.reason, d.reason as drained, coalesce(n.forgotten_at >= n.updated_at, false) as forgotten
        from capacity_requests r
       left join nodes n on n.node = r.node left join node_drains d on d.node = r.node
      where r.reservation_id = $1 and r.status = 'granted'`;

interface Granted {
  owner: string;
  node: string;
  schedulable: boolean | null;
  reason: string | null;
  drained: string | null;
  /** Nobody has looked at the node since what was known of it was given up. */
  forgotten: boolean;
}

/**
 * An extension is refused where there is maintenance that concerns its owner, or the node is to be emptied. In strict order nobody has been
 * promised these slots later.
 */
async function decideExtension(
  tx: Transaction,
  reservationId: string,
  snapshot: StoredSnapshot | null,
): Promise<PoolDecision['extension']> {
  const refused = (reason: string) => ({ reservationId, allowed: false, reason });
  const { rows } = await tx.query<Granted>(GRANTED_NODE, [reservationId]);
  const held = rows[0];
  if (held === undefined) return refused('The ledger holds no slots for this reservation');
  const maintenance = maintenanceBefore(snapshot);
  if (maintenance !== null && !maintenance.allowed.includes(held.owner)) return refused(wordsFor(maintenance));
  if (held.drained !== null) return refused(`Node ${held.node} is being drained: ${held.drained}`);
  if (held.schedulable === false && !held.forgotten)
    return refused(`Node ${held.node} takes no more work: ${held.reason ?? 'not ready'}`);
  return { reservationId, allowed: true, reason: '' };
}
