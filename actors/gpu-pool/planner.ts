/**
 * The planner: who gets which slots, and when the others may expect theirs. Pure: rows in, decisions out.
 *
 * Rule: strict order of submission with node fit. The first in line that fits nowhere holds back those behind it, so big requests cannot
 * starve behind small ones. A gang is placed whole or not at all; while members are missing it holds nobody back. Of the nodes that fit,
 * the fullest is taken (ties by name), so that whole nodes stay whole.
 *
 * Who can be served in one place only, because the volume of its disk is there, holds back nobody elsewhere: those behind it get no slot of
 * that place, and all others. Where no node of the place could ever serve it, it holds back nobody.
 */
import type { VolumePlace } from '../../machines/disk.events.ts';
import { couldServe, isBound, isIn, type Located, whyBound } from './places.ts';

/** A node as the planner sees it: only what is free. */
export interface PlanNode {
  node: string;
  zone: string | null;
  /** Slots that it has in all; left out: not known. */
  slots?: number;
  /** Free slot numbers, lowest first. */
  free: number[];
  cpuMillis: number;
  memoryBytes: number;
  labels: Record<string, string>;
}

export interface PlanRequest {
  reservationId: string;
  generation: number;
  slots: number;
  cpuMillis: number;
  memoryBytes: number;
  nodeLabels: Record<string, string>;
  gang: { id: string; size: number } | null;
  durationHours: number;
  /** Where the volume of its disk is; null or left out: nowhere yet, or anywhere. */
  place?: VolumePlace | null;
}

/** A slot holder, for forecasts. */
export interface PlanHolder {
  reservationId: string;
  node: string;
  slots: number[];
  cpuMillis: number;
  memoryBytes: number;
  /** When it is known to end, in milliseconds since the epoch; null if unknown. */
  endsAt: number | null;
}

export interface PlannedGrant {
  reservationId: string;
  generation: number;
  node: string;
  zone: string | null;
  slots: number[];
}

export interface Plan {
  grants: PlannedGrant[];
  /** Why the first in line waits, and gangs that are not complete, in words for their users. The others wait behind the first. */
  waits: { reservationId: string; because: string }[];
  /** True if somebody in line fits nowhere: those behind need not be looked at. */
  blocked: boolean;
}

function fits(node: PlanNode, request: PlanRequest): boolean {
  return (
    node.free.length >= request.slots &&
    node.cpuMillis >= request.cpuMillis &&
    node.memoryBytes >= request.memoryBytes &&
    Object.entries(request.nodeLabels).every(([key, value]) => node.labels[key] === value)
  );
}

/** Names of nodes that somebody ahead waits for. */
type Held = ReadonlySet<string>;
const NOBODY: Held = new Set();

/** Of the nodes that fit one where the volume is, else the fullest; null if none does. */
function choose(nodes: readonly PlanNode[], request: PlanRequest, held: Held): PlanNode | null {
  const bound = isBound(request);
  let best: PlanNode | null = null;
  let bestThere = false;
  for (const node of nodes) {
    if (!fits(node, request) || held.has(node.node)) continue;
    const there = isIn(node, request.place);
    if (bound && !there) continue;
    const better =
      best === null ||
      (there && !bestThere) ||
      (there === bestThere &&
        (node.free.length < best.free.length || (node.free.length === best.free.length && node.node < best.node)));
    if (!better) continue;
    best = node;
    bestThere = there;
  }
  return best;
}

function take(node: PlanNode, request: PlanRequest): PlannedGrant {
  const slots = node.free.splice(0, request.slots);
  node.cpuMillis -= request.cpuMillis;
  node.memoryBytes -= request.memoryBytes;
  return { reservationId: request.reservationId, generation: request.generation, node: node.node, zone: node.zone, slots };
}

/** Undo {@link take}. */
function give(nodes: readonly PlanNode[], grant: PlannedGrant, request: PlanRequest): void {
  const node = nodes.find((each) => each.node === grant.node)!;
  node.free = [...node.free, ...grant.slots].sort((a, b) => a - b);
  node.cpuMillis += request.cpuMillis;
  node.memoryBytes += request.memoryBytes;
}

/** Those that are placed together: a single request, or all waiting members of one gang, at the place of its first. */
export function groupsOf(waiting: readonly PlanRequest[]): PlanRequest[][] {
  const gangs = new Map<string, PlanRequest[]>();
  const groups: PlanRequest[][] = [];
  for (const request of waiting) {
    const known = request.gang === null ? undefined : gangs.get(request.gang.id);
    if (known !== undefined) {
      known.push(request);
      continue;
    }
    const group = [request];
    if (request.gang !== null) gangs.set(request.gang.id, group);
    groups.push(group);
  }
  return groups;
}

function whyNot(nodes: readonly PlanNode[], request: PlanRequest, group: readonly PlanRequest[]): string {
  if (nodes.length === 0) return 'No node of this type is ready';
  const total = nodes.reduce((sum, node) => sum + node.free.length, 0);
  const largest = Math.max(...nodes.map((node) => node.free.length));
  if (group.length > 1)
    return `A gang of ${group.length} needs ${group.length} whole nodes at once; ${total} slots are free, at most ${largest} on one node`;
  if (
    Object.keys(request.nodeLabels).length > 0 &&
    !nodes.some((node) => Object.entries(request.nodeLabels).every(([k, v]) => node.labels[k] === v))
  ) {
    return 'No ready node bears the labels asked for';
  }
  if (largest >= request.slots) return 'Nodes with enough free GPUs lack CPU or memory';
  if (total >= request.slots) return `${total} are free, but at most ${largest} on one node`;
  return total === 0 ? 'All are in use' : `${total} of the ${request.slots} asked for are free`;
}

/** Why this group is not placed, in words for its users. */
function reasonOf(nodes: readonly PlanNode[], shut: readonly Located[], group: readonly PlanRequest[], held: Held): string {
  const bound = group.find((request) => isBound(request) && choose(nodes, request, held) === null);
  if (bound !== undefined) return (group.length > 1 ? 'A member of the gang waits: ' : '') + whyBound(nodes, shut, bound);
  if (held.size > 0 && group.length === 1 && choose(nodes, group[0]!, NOBODY) !== null)
    return 'What is free is kept for somebody ahead in the queue whose disk can be used nowhere else';
  const open = nodes.filter((node) => !held.has(node.node));
  return whyNot(open.length === 0 ? nodes : open, group[0]!, group);
}

/**
 * Decide who gets slots now.
 * @param nodes schedulable nodes with what is free on them; changed by the call.
 * @param waiting the queue, in order of submission.
 * @param granted how many members of each gang hold slots already.
 * @param shut nodes of the type that take nobody new.
 */
export function plan(
  nodes: PlanNode[],
  waiting: readonly PlanRequest[],
  granted: ReadonlyMap<string, number> = new Map(),
  shut: readonly Located[] = [],
): Plan {
  const grants: PlannedGrant[] = [];
  const waits: Plan['waits'] = [];
  const held = new Set<string>();
  const tell = (group: readonly PlanRequest[], because: string) => {
    for (const { reservationId } of group) waits.push({ reservationId, because });
  };
  const groups = groupsOf(waiting);
  for (const [index, group] of groups.entries()) {
    const first = group[0]!;
    const missing = first.gang === null ? 0 : first.gang.size - group.length - (granted.get(first.gang.id) ?? 0);
    if (missing > 0) {
      tell(group, `Waiting for ${missing} more of its gang`);
      continue;
    }
    const placed = placeGroup(nodes, group, held);
    if (placed !== null) {
      grants.push(...placed);
      continue;
    }
    tell(group, reasonOf(nodes, shut, group, held));
    const wanted = waitsFor(nodes, group, held);
    for (const node of wanted ?? []) held.add(node);
    if (wanted !== null && (held.size === 0 || nodes.some((node) => node.free.length > 0 && !held.has(node.node)))) continue;
    // Nobody behind is served now. Who never will be as things stand is told so all the same.
    for (const behind of groups.slice(index + 1)) {
      const lost = behind.find((request) => isBound(request) && !nodes.some((node) => couldServe(node, request)));
      if (lost !== undefined) tell(behind, reasonOf(nodes, shut, behind, held));
    }
    return { grants, waits, blocked: true };
  }
  return { grants, waits, blocked: false };
}

/** Those that have the fewest nodes to choose from come first. */
function hardestFirst(group: readonly PlanRequest[]): readonly PlanRequest[] {
  return group.length > 1 && group.some(isBound) ? [...group].sort((a, b) => Number(isBound(b)) - Number(isBound(a))) : group;
}

/** Place all of a group, or none. */
export function placeGroup(
  nodes: readonly PlanNode[],
  group: readonly PlanRequest[],
  held: Held = NOBODY,
): PlannedGrant[] | null {
  const placed: { grant: PlannedGrant; request: PlanRequest }[] = [];
  for (const request of hardestFirst(group)) {
    const node = choose(nodes, request, held);
    if (node === null) {
      for (const each of placed.reverse()) give(nodes, each.grant, each.request);
      return null;
    }
    placed.push({ grant: take(node, request), request });
  }
  return placed.map((each) => each.grant);
}

/**
 * Nodes that nobody behind a group that was not placed may have, so that it does not starve; null: all of them.
 *
 * Who is bound to a place waits for the nodes there that could serve it. A gang with such members waits for theirs, and for as many others as
 * the rest of it could have now; if the rest could not be placed either, it holds back everybody, as any gang does.
 */
export function waitsFor(nodes: readonly PlanNode[], group: readonly PlanRequest[], held: Held): string[] | null {
  const bound = group.filter(isBound);
  if (bound.length === 0) return null;
  const homes = bound.map((request) => nodes.filter((node) => couldServe(node, request)).map((node) => node.node));
  if (homes.some((home) => home.length === 0)) return [];
  const wanted = homes.flat();
  const rest = group.filter((request) => !isBound(request));
  const placed = placeGroup(nodes, rest, new Set([...held, ...wanted]));
  if (placed === null) return null;
  const requests = new Map(rest.map((request) => [request.reservationId, request]));
  for (const grant of [...placed].reverse()) give(nodes, grant, requests.get(grant.reservationId)!);
  return [...wanted, ...placed.map((grant) => grant.node)];
}
