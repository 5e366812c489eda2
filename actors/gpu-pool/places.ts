/** Where a disk's volume can be used: which nodes are in its place, which of them a request waits for, and words for its user. Pure. */
import { NODE_NAME, type VolumePlace } from '../../machines/disk.events.ts';
import type { PlanNode, PlanRequest } from './planner.ts';

/** What a place is compared with. */
export interface Located {
  node: string;
  labels: Record<string, string>;
}

/** Whether a volume of that place can be used on the node. */
export function isIn(node: Located, place: VolumePlace | null | undefined): boolean {
  if (place === null || place === undefined || place.anyOf.length === 0) return true;
  return place.anyOf.some((labels) =>
    Object.entries(labels).every(([key, values]) => values.includes(key === NODE_NAME ? node.node : (node.labels[key] ?? ''))),
  );
}

/** Whether the request can be served nowhere but in a place: its volume cannot be had elsewhere. */
export function isBound({ place }: PlanRequest): boolean {
  return isFixed(place);
}

/** Whether a volume of that place can be used on some nodes alone. */
export function isFixed(place: VolumePlace | null | undefined): boolean {
  return place !== null && place !== undefined && !place.movable && place.anyOf.length > 0;
}

/** Labels of nodes by which these places are known. */
export function keysOf(places: readonly (VolumePlace | null | undefined)[]): string[] {
  return [...new Set(places.flatMap((place) => (place?.anyOf ?? []).flatMap((labels) => Object.keys(labels))))].filter(
    (key) => key !== NODE_NAME,
  );
}

/** Whether the node could serve the request if nobody else were on it. */
export function couldServe(node: PlanNode, request: PlanRequest): boolean {
  return (
    (node.slots ?? Number.POSITIVE_INFINITY) >= request.slots &&
    isIn(node, request.place) &&
    Object.entries(request.nodeLabels).every(([key, value]) => node.labels[key] === value)
  );
}

const HOSTNAME = 'kubernetes.io/hostname';
const ZONE = /(^|[./])zone$/;

/** The place in words: `node gpu-7`, `zone eu-west-1a`. */
export function nameOfPlace({ anyOf }: VolumePlace): string {
  const names = anyOf.map((labels) =>
    Object.entries(labels)
      .map(([key, values]) => {
        const these = values.join(' or ');
        if (key === NODE_NAME || key === HOSTNAME) return `node ${these}`;
        return ZONE.test(key) ? `zone ${these}` : `nodes with ${key}=${these}`;
      })
      .join(', '),
  );
  return [...new Set(names)].join(' or ');
}

/** What somebody can do whose disk is where no server can be. */
export const ELSEWHERE = 'Another disk, or none, can be named; a clone can be used where its snapshots can be reached';

/**
 * Why a request that is bound to a place waits, in words for its user.
 * @param open nodes that take work; @param shut nodes of the type that take none now
 */
export function whyBound(open: readonly PlanNode[], shut: readonly Located[], request: PlanRequest): string {
  const place = request.place!;
  const where = `Its disk is on ${nameOfPlace(place)}`;
  const there = open.filter((node) => isIn(node, place));
  if (there.length === 0) {
    const closed = shut.filter((node) => isIn(node, place));
    if (closed.length > 0) return `${where}, which takes no new servers now`;
    return `${where}, and no node of this type is there. ${ELSEWHERE}`;
  }
  if (!there.some((node) => couldServe(node, request)))
    return `${where}, and no node there is large enough or bears the labels asked for. ${ELSEWHERE}`;
  const most = Math.max(...there.map((node) => node.free.length));
  if (most >= request.slots) return `${where}, where CPU or memory is lacking, or somebody ahead in the queue waits for the same`;
  return most === 0 ? `${where}, where all are in use` : `${where}, where ${most} of the ${request.slots} asked for are free`;
}
