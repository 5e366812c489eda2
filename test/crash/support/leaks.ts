/** What may be left on the cluster when every reservation has ended: the volumes of disks and their snapshots, nothing else. */
import { expect } from 'vitest';
import type { Scene } from './scene.ts';

interface Listed {
  items: { metadata: { name: string; deletionTimestamp?: string } }[];
}

async function namesOf(scene: Scene, path: string): Promise<string[]> {
  const response = await fetch(`${scene.clusterUrl}${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return ((await response.json()) as Listed).items.map((item) => item.metadata.name).sort();
}

/** No object without an owner, no volume without its disk, no snapshot we do not know; all GPUs are free. */
export async function expectNoLeak(scene: Scene): Promise<void> {
  const core = '/api/v1/namespaces/gpu-dev';
  // What belonged to a pod goes with it, but not in the same instant.
  await scene
    .until('what belonged to pods is gone', async () => {
      const left = await Promise.all(['pods', 'services', 'secrets'].map((what) => namesOf(scene, `${core}/${what}`)));
      return left.flat().length === 0;
    })
    .catch(async (error: Error) => {
      const left = await Promise.all(['pods', 'services', 'secrets'].map((what) => namesOf(scene, `${core}/${what}`)));
      expect(left, error.message).toEqual([[], [], []]);
    });
  // A cancel that comes while a volume is being made leaves it, empty, for the next time; it goes when its disk is purged.
  const { rows: disks } = await scene.db.query<{ name: string; claim: string | null }>(
    `select 'disk-' || disk_id as name, volume_claim as claim from disks where purged_at is null`,
  );
  const volumes = await namesOf(scene, `${core}/persistentvolumeclaims`);
  expect(disks.map((disk) => disk.name)).toEqual(expect.arrayContaining(volumes));
  expect(volumes).toEqual(expect.arrayContaining(disks.flatMap((disk) => disk.claim ?? [])));
  const { rows: snapshots } = await scene.db.query<{ id: string }>(
    `select snapshot_id as id from disk_snapshots where status = 'complete' order by snapshot_id collate "C"`,
  );
  expect((await scene.snapshots()).sort()).toEqual(snapshots.map((snapshot) => snapshot.id));
  const { rows: free } = await scene.db.query<{ gpu_type: string; total: number; free: number }>(
    `select gpu_type, total, free, in_use, queued from gpu_availability where total <> free or in_use + queued > 0`,
  );
  expect(free).toEqual([]);
}
