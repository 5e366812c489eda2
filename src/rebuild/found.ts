/** All that remains of an earlier database, and what the present one knows of it already. */
import { eachOf } from '../../actors/gpu-pool/parallel.ts';
import type { Queryable } from '../../persistence/database.ts';
import type { FoundDisks, FoundNames, FoundServer, Remains } from './ports.ts';

export interface Found {
  servers: FoundServer[];
  disks: FoundDisks;
  names: ReadonlyMap<string, FoundNames>;
  /** The volumes that claims of servers lead to, by claim. */
  mounts: ReadonlyMap<string, string | null>;
}

/**
 * List everything. Servers first: whoever gets a disk between the lists is known to the database.
 * @throws if a list did not come to its end: nothing is built of half a list
 */
export async function findRemains(remains: Remains): Promise<Found> {
  const servers = await remains.servers();
  const disks = await remains.disks.find();
  const names = (await remains.names()) ?? new Map();
  const claims = [...new Set(servers.flatMap(({ claim }) => claim ?? []))];
  const mounts = new Map<string, string | null>();
  const failures: unknown[] = [];
  const look = async (claim: string) => mounts.set(claim, await remains.disks.behind(claim));
  if ((await eachOf(claims, look, (error) => failures.push(error))) > 0) throw failures[0];
  return { servers, disks, names, mounts };
}

/** What the present database has that an earlier one may have had as well. */
export interface Known {
  reservations: ReadonlySet<string>;
  disks: ReadonlySet<string>;
  /** Who has a name now. */
  names: ReadonlyMap<string, string>;
  /** Ids of disks that are not purged, by owner and name. */
  diskNames: ReadonlyMap<string, string>;
  gpuTypes: ReadonlySet<string>;
  nodes: ReadonlySet<string>;
}

const KNOWN_RESERVATIONS = `
  select substr(actor, 13) as id from actors where kind = 'reservation' and actor = any($1::text[])
   union select secret_ref from secrets where 'reservation/' || secret_ref = any($1::text[])`;
const KNOWN_DISKS = 'select disk_id::text as id from disks where disk_id::text = any($1::text[])';
const TAKEN_NAMES = 'select domain_name as name, reservation_id as id from domain_mappings';
const DISK_NAMES = 'select user_id as owner, disk_name as name, disk_id::text as id from disks where purged_at is null';
const GPU_TYPES = 'select gpu_type as id from gpu_types';
const NODES = 'select node as id from nodes';

export const diskKey = (owner: string, name: string): string => `${owner}\n${name}`;

/** @throws the database's error */
export async function readKnown(db: Queryable, { servers, disks }: Found): Promise<Known> {
  const ids = async (statement: string, values: unknown[] = []) =>
    new Set((await db.query<{ id: string }>(statement, values)).rows.map(({ id }) => id));
  const actors = [...new Set(servers.map(({ reservationId }) => `reservation/${reservationId}`))];
  const diskIds = [...new Set([...disks.volumes, ...disks.snapshots, ...disks.ignored].flatMap(({ diskId }) => diskId ?? []))];
  const { rows: names } = await db.query<{ name: string; id: string }>(TAKEN_NAMES, []);
  const { rows: named } = await db.query<{ owner: string; name: string; id: string }>(DISK_NAMES, []);
  return {
    reservations: await ids(KNOWN_RESERVATIONS, [actors]),
    disks: await ids(KNOWN_DISKS, [diskIds]),
    names: new Map(names.map(({ name, id }) => [name, id])),
    diskNames: new Map(named.map(({ owner, name, id }) => [diskKey(owner, name), id])),
    gpuTypes: await ids(GPU_TYPES),
    nodes: await ids(NODES),
  };
}
