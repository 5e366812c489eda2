/**
 * The planner: who gets which slots, and when the others may expect theirs. Pure: rows in, decisions out.
 *
 * Rule: strict order of submission with node fit. The first in line that fits nowhere holds back those behind it, so big requests cannot
 * starve behind small ones. A gang is placed whole or not at all; while members are missing it holds nobody back. Of the nodes that fit,
 * the fullest is taken (ties by name), so that whole nodes stay whole.
 */
import { Ends } from './ends.ts';

/** A node as the planner sees it: only what is free. */
export interface PlanNode {
  node: string;
  zone: string | null;
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

/** The fullest node that fits; null if none does. */
function choose(nodes: readonly PlanNode[], request: PlanRequest): PlanNode | null {
  let best: PlanNode | null = null;
  for (const node of nodes) {
    if (!fits(node, request)) continue;
    if (best === null || node.free.length < best.free.length || (node.free.length === best.free.length && node.node < best.node))
      best = node;
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
function groupsOf(waiting: readonly PlanRequest[]): PlanRequest[][] {
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

/**
 * Decide who gets slots now.
 * @param nodes schedulable nodes with what is free on them; changed by the call.
 * @param waiting the queue, in order of submission.
 * @param granted how many members of each gang hold slots already.
 */
export function plan(nodes: PlanNode[], waiting: readonly PlanRequest[], granted: ReadonlyMap<string, number> = new Map()): Plan {
  const grants: PlannedGrant[] = [];
  const waits: Plan['waits'] = [];
  for (const group of groupsOf(waiting)) {
    const first = group[0]!;
    const missing = first.gang === null ? 0 : first.gang.size - group.length - (granted.get(first.gang.id) ?? 0);
    if (missing > 0) {
      for (const each of group)
        waits.push({ reservationId: each.reservationId, because: `Waiting for ${missing} more of its gang` });
      continue;
    }
    const placed = placeGroup(nodes, group);
    if (placed === null) {
      const because = whyNot(nodes, first, group);
      for (const each of group) waits.push({ reservationId: each.reservationId, because });
      return { grants, waits, blocked: true };
    }
    grants.push(...placed);
  }
  return { grants, waits, blocked: false };
}

/** Place all of a group, or none. */
function placeGroup(nodes: readonly PlanNode[], group: readonly PlanRequest[]): PlannedGrant[] | null {
  const placed: { grant: PlannedGrant; request: PlanRequest }[] = [];
  for (const request of group) {
    const node = choose(nodes, request);
    if (node === null) {
      for (const each of placed.reverse()) give(nodes, each.grant, each.request);
      return null;
    }
    placed.push({ grant: take(node, request), request });
  }
  return placed.map((each) => each.grant);
}

/**
 * When each waiting request may expect to start: the plan is played forward over the known ends of those who hold slots. The work grows with
 * the ends and the requests, not with their product: whoever has been placed is not looked at again.
 * @param nodes changed by the call.
 * @param now and the results are milliseconds since the epoch; null if no known end leads to a start.
 * @param hourMs length of one reserved hour (shorter under a time scale).
 */
export function forecast(
  nodes: PlanNode[],
  holders: readonly PlanHolder[],
  waiting: readonly PlanRequest[],
  now: number,
  hourMs: number,
): Map<string, number | null> {
  const starts = new Map<string, number | null>(waiting.map((request) => [request.reservationId, null]));
  const byName = new Map(nodes.map((node) => [node.node, node]));
  const groups = groupsOf(waiting).filter((group) => group.length >= (group[0]!.gang?.size ?? 1));
  const ends = new Ends();
  for (const { endsAt, ...holder } of holders) if (endsAt !== null) ends.add(endsAt, holder);
  let time = now;
  // Where the first in line may fit now: what did not fit before an end fits nowhere but where it gave something back.
  let places: readonly PlanNode[] = nodes;
  for (let next = 0; ; ) {
    for (let group = groups[next]; group !== undefined; group = groups[++next]) {
      const placed = placeGroup(group.length === 1 ? places : nodes, group);
      if (placed === null) break;
      places = nodes;
      const requests = new Map(group.map((request) => [request.reservationId, request]));
      for (const { reservationId, node, slots } of placed) {
        const { durationHours, cpuMillis, memoryBytes } = requests.get(reservationId)!;
        starts.set(reservationId, time);
        ends.add(time + durationHours * hourMs, { node, slots, cpuMillis, memoryBytes });
      }
    }
    const end = next < groups.length ? ends.take() : null;
    if (end === null) return starts;
    time = Math.max(time, end.at);
    const node = byName.get(end.freed.node);
    // It may end on a node that takes nobody new.
    places = node === undefined ? [] : [node];
    if (node === undefined) continue;
    node.free = [...node.free, ...end.freed.slots].sort((a, b) => a - b);
    node.cpuMillis += end.freed.cpuMillis;
    node.memoryBytes += end.freed.memoryBytes;
  }
}
