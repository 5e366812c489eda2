/** What a rebuild would bring back, what it cannot, and why: a pure function of what was found and of what the database knows. */
import { claimName } from '../providers/kubernetes/objects.ts';
import { diskKey, type Found, type Known } from './found.ts';
import { type DiskPlan, type Left, planDisks } from './plan-disks.ts';
import type { FoundNames, FoundServer } from './ports.ts';
import { readServerRecord, type ServerRecord } from './records.ts';

export interface ServerPlan {
  id: string;
  server: FoundServer;
  record: ServerRecord;
  /** Comes back together with it; null if it has none. */
  disk: DiskPlan | null;
  names: FoundNames | null;
}

export interface Plan {
  /** Disks that no server uses. */
  disks: DiskPlan[];
  servers: ServerPlan[];
  /** People to whom any of it belongs. */
  owners: string[];
  left: Left[];
  /** How many there are that the database knows already. */
  known: { disks: number; servers: number };
}

/** @param now in milliseconds since the epoch */
export function planRebuild(found: Found, known: Known, now: number): Plan {
  const ignored = found.disks.ignored.filter(({ diskId = '' }) => !known.disks.has(diskId));
  const { disks: all, left: leftDisks } = planDisks({ ...found.disks, ignored }, now);
  const left: Left[] = leftDisks.filter(({ kind, id }) => kind !== 'disk' || !known.disks.has(id));
  const fresh = all.filter(({ id }) => !known.disks.has(id));
  const disks = new Map(fresh.map((disk) => [disk.id, disk]));
  for (const disk of refusedByName(fresh, known)) {
    disks.delete(disk.id);
    left.push(disk);
  }
  const servers: ServerPlan[] = [];
  const unknown = found.servers.filter(({ reservationId }) => !known.reservations.has(reservationId));
  for (const server of unknown) {
    const planned = planServer(server, { found, known, disks, servers: unknown });
    if ('why' in planned) {
      left.push({ kind: 'server', id: server.reservationId, why: planned.why });
      // Two sessions would write to it at the same time.
      for (const disk of disks.values())
        if (server.claim === claimName(disk.id)) {
          disks.delete(disk.id);
          left.push({ kind: 'disk', id: disk.id, why: `The pod ${server.pod}, which is left as it is, uses it` });
        }
    } else servers.push(planned);
  }
  for (const { disk } of servers) if (disk !== null) disks.delete(disk.id);
  const idle = [...disks.values()];
  const owners = [...idle.map(({ owner }) => owner), ...servers.map(({ record }) => record.owner)];
  return {
    disks: idle,
    servers,
    owners: [...new Set(owners)].sort(),
    left,
    known: { disks: all.length - fresh.length, servers: found.servers.length - unknown.length },
  };
}

/** A name is its owner's once. Which of two disks is to bear it is not ours to say. */
function refusedByName(disks: readonly DiskPlan[], known: Known): Left[] {
  return disks.flatMap(({ id, owner, name }): Left[] => {
    const taken = known.diskNames.get(diskKey(owner, name));
    const twin = disks.find((other) => other.id !== id && other.owner === owner && other.name === name)?.id;
    const other = taken ?? twin;
    if (other === undefined) return [];
    return [
      { kind: 'disk', id, why: `Its name ${name} is that of another disk of ${owner}, ${other}: give that one another name` },
    ];
  });
}

interface Around {
  found: Found;
  known: Known;
  disks: ReadonlyMap<string, DiskPlan>;
  servers: readonly FoundServer[];
}

function planServer(server: FoundServer, { found, known, disks, servers }: Around): ServerPlan | { why: string } {
  const { pod, reservationId: id, generation } = server;
  const twin = servers.find((other) => other.reservationId === id && other.pod !== pod);
  if (twin !== undefined) return { why: `Two pods claim to be its server: ${pod} and ${twin.pod}` };
  if (server.terminating) return { why: `Its pod ${pod} is being deleted; come again when it is gone` };
  const read = readServerRecord(server.record);
  if ('flaw' in read) return { why: `The pod ${pod} says too little of it: ${read.flaw}` };
  const { record } = read;
  const { request, stay, owner } = record;
  if (record.id !== id || stay.generation !== generation || (server.owner !== null && server.owner !== owner))
    return { why: `The record on the pod ${pod} is not of this server` };
  if (server.node !== stay.grant.node)
    return { why: `The pod ${pod} is on ${server.node}, and its record says ${stay.grant.node}` };
  if (!known.gpuTypes.has(request.gpuType)) return { why: `The GPU type ${request.gpuType} is not in the catalogue` };
  if (!known.nodes.has(stay.grant.node))
    return { why: `The node ${stay.grant.node} is not on record yet: a processor must run, and see the cluster` };
  const holder = known.names.get(request.name);
  if (holder !== undefined) return { why: `Its name ${request.name} is that of reservation ${holder} by now` };
  const names = found.names.get(id) ?? null;
  if (request.disk === null) return { id, server, record, disk: null, names };
  const disk = disks.get(request.disk.id);
  if (disk === undefined)
    return { why: `Its disk ${request.disk.name} (${request.disk.id}) cannot be brought back, or is another's by now` };
  if (disk.volume === null || disk.volume.claim !== stay.claim || server.claim !== stay.claim)
    return { why: `Its disk ${disk.name} is not the one that its pod uses` };
  // The claim has the disk's name, whatever it leads to.
  const mounted = found.mounts.get(stay.claim) ?? null;
  if (mounted !== disk.volume.name)
    return {
      why: `Its pod uses ${mounted ?? 'no volume that is known'}, and its disk ${disk.name} would be ${disk.volume.name}`,
    };
  if (disk.owner !== owner) return { why: `Its disk ${disk.name} is ${disk.owner}'s` };
  return { id, server, record, disk, names };
}
