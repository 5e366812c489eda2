/** The models' paths, made to share one database: every actor has ids of its own. */
import type { Database } from '../../persistence/database.ts';
import { writeNodes } from '../../persistence/gpu-nodes.ts';
import { diskModel, RESERVATIONS } from './disk.model.ts';
import type { Model } from './explore.ts';
import { poolModel } from './gpu-pool.model.ts';
import { imageModel } from './image.model.ts';
import type { Path } from './paths.ts';
import { DISK_ID, RESERVATION_ID } from './reservation.cases.ts';
import { reservationModel } from './reservation.model.ts';

/** The models of all machines. */
export const MODELS = [reservationModel, diskModel, imageModel, poolModel] as unknown as readonly Model[];

/** The id of the actor that goes the path of this number of this model. */
export function idOf(model: Model, number: number): string {
  return `019cae4${MODELS.indexOf(model)}-0000-7000-8000-${number.toString(16).padStart(12, '0')}`;
}

/** The path with ids of its own, so that actors do not meet in the tables. */
export function ownedBy(path: Path, number: number, id: string): Path {
  const own = (text: string, model: string, index: number) =>
    text.replaceAll(model, `019cae3${index + 2}-0000-7000-8000-${number.toString(16).padStart(12, '0')}`);
  const text = [RESERVATION_ID, DISK_ID].reduce((known, model) => known.replaceAll(model, id), JSON.stringify(path));
  const named = RESERVATIONS.reduce(own, text)
    .replaceAll('"name":"default"', `"name":"disk-${number}"`)
    .replaceAll('"name":"brave-otter"', `"name":"otter-${number}"`)
    .replaceAll('"snap-saved"', `"snap-saved-${number}"`)
    .replaceAll('"gpuType":"h100"}', `"gpuType":"${id}"}`)
    .replaceAll('"reservationId":"ada"', `"reservationId":"ada-${number}"`);
  return JSON.parse(named) as Path;
}

/** Each pool has a type of its own with one node, so that its planner has rows to decide over. */
export async function openPools(db: Database, ids: readonly string[]): Promise<void> {
  await db.query(
    `insert into gpu_types (gpu_type, instance_type, max_gpus, max_per_node, cpus, memory_gb, cpu_share, memory_share, max_hours, max_total_hours)
     select id, 'model', 4, 4, 96, 1000, 0.25, 0.25, 24, 48 from unnest($1::text[]) as id`,
    [ids],
  );
  await db.withTransaction((tx) =>
    writeNodes(
      tx,
      ids.map((gpuType) => ({ ...NODE, gpuType, node: `node-${gpuType}`, uid: gpuType })),
    ),
  );
}

/** Each disk has a complete snapshot from before its first event, to be set back to. */
export async function saveDisks(db: Database, ids: readonly string[]): Promise<void> {
  await db.query(
    `insert into disks (disk_id, user_id, disk_name, size_gb, created_at)
     select id, 'ada', 'disk-' || (place - 1), 200, '2026-03-01' from unnest($1::uuid[]) with ordinality as given(id, place)`,
    [ids],
  );
  await db.query(
    `insert into disk_snapshots (snapshot_id, disk_id, status, created_at, completed_at)
     select 'snap-saved-' || (place - 1), id, 'complete', '2026-03-01', '2026-03-01' from unnest($1::uuid[]) with ordinality as given(id, place)`,
    [ids],
  );
}

const NODE = {
  ready: true,
  schedulable: true,
  reason: null,
  slots: 4,
  foreignSlots: 0,
  cpuMillis: 96_000,
  memoryBytes: 1e12,
  foreignCpu: 0,
  foreignMemory: 0,
  address: null,
  zone: null,
  labels: {},
};
