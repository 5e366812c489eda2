/** The GPU pool as a kind of actor. Its `prepare` runs the planner over rows and puts the decision into the event that history keeps. */
import { type PoolDecision, PoolEvent } from '../../machines/gpu-pool.events.ts';
import { intentsOfPool, poolMachine } from '../../machines/gpu-pool.machine.ts';
import type { StoredSnapshot } from '../../persistence/actor-store.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { ActorKind, StampedEvent } from '../kernel/kind.ts';
import { hasGangBeyond, type Left, type PoolRows, readPool, writeAvailability, writeReasons } from './capacity.ts';
import { joinGang, leaveGang } from './gangs.ts';
import { addRequest, grantSlots, holdPlanned, releaseEnded, releaseSlots, shareSlots } from './ledger.ts';
import { type Plan, plan } from './planner.ts';

type Message = PoolEvent & { at: string };

function nothing(): PoolDecision {
  return { grants: [], refusals: [], gangComplete: [], gangBroken: [], extension: null };
}

/** The kind `gpu-pool`; its ids are GPU types. */
export function poolKind(): ActorKind {
  return {
    kind: 'gpu-pool',
    version: 1,
    machine: poolMachine,
    events: PoolEvent,
    birth: 'pool.opened',
    input: (event) => ({ gpuType: event['gpuType'] }),
    intents: (action, context, event) => intentsOfPool(action, context, event as never),
    effects: null,
    migrations: {},
    context: null,
    handlers: {},
    prepare: async (tx, event, turn) => prepare(tx, event as unknown as Message, turn) as Promise<StampedEvent>,
  };
}

async function prepare(
  tx: Transaction,
  event: Message,
  turn: { id: string; last: boolean; snapshot: StoredSnapshot | null },
): Promise<Message> {
  const gpuType = turn.id;
  if (event.type === 'pool.opened') return event;
  const decision = nothing();
  switch (event.type) {
    case 'capacity.requested':
      addRequest(tx, gpuType, event);
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
    case 'nodes.changed':
    case 'pool.paused':
    case 'pool.resumed':
      break;
  }
  // One plan a turn is enough: what earlier messages of this turn changed is in the rows.
  if (turn.last) {
    const paused = pausedBy(event, turn.snapshot);
    const { planned, left, waiting, all } = await planLine(tx, gpuType, paused !== null);
    await grantSlots(tx, planned.grants, event.at);
    decision.grants = planned.grants.map(({ reservationId, generation, node, slots, zone }) => ({
      reservationId,
      generation,
      grant: { node, slots, zone },
    }));
    writeAvailability(tx, gpuType, left, paused, event.at);
    writeReasons(tx, gpuType, { waiting, all }, planned.waits);
  }
  return event.type === 'pool.paused' ? event : { ...event, decision };
}

/** Why the pool grants nothing after this event; null if it does. */
function pausedBy(event: Message, snapshot: StoredSnapshot | null): string | null {
  if (event.type === 'pool.resumed') return null;
  if (event.type === 'pool.paused') return event.reason;
  return snapshot?.value === 'paused' ? reasonOf(snapshot) : null;
}

function reasonOf(snapshot: StoredSnapshot | null): string {
  return (snapshot?.context as { pausedBecause?: string | null } | undefined)?.pausedBecause ?? 'maintenance';
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
}

/** A plan whose slots are ours to grant until the turn ends. */
async function planLine(tx: Transaction, gpuType: string, paused: boolean): Promise<Decided> {
  shareSlots(tx);
  for (let round = 1; ; round++) {
    const decided = await planOnce(tx, gpuType, paused);
    if (await holdPlanned(tx, decided.planned.grants)) return decided;
    if (round < PLANS) continue;
    // Nobody loses a message: the refresh plans again.
    const nothingFits = decideBy(await readPool(tx, gpuType, 0), true);
    return { ...nothingFits, planned: { grants: [], waits: [], blocked: true } };
  }
}

/** Plan as far into the line as it takes to meet somebody who does not fit. */
async function planOnce(tx: Transaction, gpuType: string, paused: boolean): Promise<Decided> {
  for (let portion = FIRST_PORTION; ; portion *= 8) {
    const rows = await readPool(tx, gpuType, paused ? 0 : portion);
    // A pool that is paused looks at nobody, and leaves what is said of them.
    const all = paused || rows.waiting.length < portion;
    const decided = decideBy(rows, all);
    if (all || (decided.planned.blocked && !(await hasGangBeyond(tx, rows)))) return decided;
  }
}

function decideBy(rows: PoolRows, all: boolean): Decided {
  const nodes = rows.nodes.map((node) => ({ ...node, free: [...node.free] }));
  const planned = plan(nodes, rows.waiting, rows.gangsGranted);
  const granted = new Set(planned.grants.map((grant) => grant.reservationId));
  const held = rows.held + planned.grants.reduce((sum, grant) => sum + grant.slots.length, 0);
  return {
    planned,
    left: { nodes, total: rows.total, held },
    waiting: rows.waiting.filter((request) => !granted.has(request.reservationId)),
    all,
  };
}

export const GRANTED_NODE = `select r.node, n.schedulable, n.reason from capacity_requests r left join nodes n on n.node = r.node
      where r.reservation_id = $1 and r.status = 'granted'`;

/** An extension is refused where the pool is paused or the node is to be emptied. In strict order nobody has been promised these slots later. */
async function decideExtension(
  tx: Transaction,
  reservationId: string,
  snapshot: StoredSnapshot | null,
): Promise<PoolDecision['extension']> {
  if (snapshot?.value === 'paused')
    return { reservationId, allowed: false, reason: `This GPU type is under maintenance: ${reasonOf(snapshot)}` };
  const { rows } = await tx.query<{ node: string; schedulable: boolean | null; reason: string | null }>(GRANTED_NODE, [
    reservationId,
  ]);
  const held = rows[0];
  if (held === undefined) return { reservationId, allowed: false, reason: 'The ledger holds no slots for this reservation' };
  if (held.schedulable === false)
    return { reservationId, allowed: false, reason: `Node ${held.node} takes no more work: ${held.reason ?? 'not ready'}` };
  return { reservationId, allowed: true, reason: '' };
}
