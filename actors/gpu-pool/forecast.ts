/** When those in line may expect to start: the planner's own rules, played forward over the known ends. Pure. */
import { Ends } from './ends.ts';
import {
  groupsOf,
  type PlanHolder,
  type PlannedGrant,
  type PlanNode,
  type PlanRequest,
  placeGroup,
  waitsFor,
} from './planner.ts';

/** A group that waits for nodes of its own while others are served. */
interface Passed {
  group: readonly PlanRequest[];
  nodes: readonly string[];
}

/**
 * When each waiting request may expect to start: the plan is played forward over the known ends of those who hold slots. The work grows with
 * the ends and the requests, not with their product: whoever has been placed is not looked at again, and who waits for nodes of its own is
 * looked at when something there ends.
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
  let next = 0;
  let passed: Passed[] = [];
  /** Nodes that those who were passed by wait for. */
  let held = new Set<string>();

  const start = (group: readonly PlanRequest[], placed: readonly PlannedGrant[]) => {
    const requests = new Map(group.map((request) => [request.reservationId, request]));
    for (const { reservationId, node, slots } of placed) {
      const { durationHours, cpuMillis, memoryBytes } = requests.get(reservationId)!;
      starts.set(reservationId, time);
      ends.add(time + durationHours * hourMs, { node, slots, cpuMillis, memoryBytes });
    }
  };
  /**
   * Something ended on a node that those who were passed by may wait for.
   * @returns whether other nodes are held than before
   */
  const servePassed = (freed: string): boolean => {
    const still: Passed[] = [];
    const ahead = new Set<string>();
    let changed = false;
    for (const each of passed) {
      const alone = each.group.length === 1;
      const mayFit = !alone || ((changed || each.nodes.includes(freed)) && !each.nodes.every((node) => ahead.has(node)));
      const placed = mayFit ? placeGroup(nodes, each.group, ahead) : null;
      if (placed !== null) {
        start(each.group, placed);
        changed = true;
        continue;
      }
      // What somebody could be served by alone does not change; what the rest of a gang could have does.
      const wanted = alone ? each.nodes : waitsFor(nodes, each.group, ahead);
      if (wanted !== each.nodes) changed = true;
      still.push({ group: each.group, nodes: wanted ?? [...byName.keys()] });
      for (const node of wanted ?? byName.keys()) ahead.add(node);
    }
    passed = still;
    held = ahead;
    return changed;
  };

  // Where the first in line may fit now: what did not fit before an end fits nowhere but where it gave something back.
  let places: readonly PlanNode[] = nodes;
  for (;;) {
    for (let group = groups[next]; group !== undefined; group = groups[++next]) {
      const placed = placeGroup(group.length === 1 ? places : nodes, group, held);
      if (placed !== null) {
        start(group, placed);
        places = nodes;
        continue;
      }
      const wanted = waitsFor(nodes, group, held);
      if (wanted === null) break;
      // Without a node that could ever serve it, it has no start to expect.
      if (wanted.length > 0) passed.push({ group, nodes: wanted });
      for (const node of wanted) held.add(node);
      places = nodes;
    }
    const end = next < groups.length || passed.length > 0 ? ends.take() : null;
    if (end === null) return starts;
    time = Math.max(time, end.at);
    const node = byName.get(end.freed.node);
    // It may end on a node that takes nobody new.
    places = node === undefined ? [] : [node];
    if (node === undefined) continue;
    node.free = [...node.free, ...end.freed.slots].sort((a, b) => a - b);
    node.cpuMillis += end.freed.cpuMillis;
    node.memoryBytes += end.freed.memoryBytes;
    if ((held.has(node.node) || passed.some(({ group }) => group.length > 1)) && servePassed(node.node)) places = nodes;
  }
}
