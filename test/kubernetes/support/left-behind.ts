/** What may be left when every reservation has ended, by the API server's own lists: claims and snapshots of disks on record, nothing else. */
import { expect } from 'vitest';
import { ANNOTATION, LABEL } from '../../../src/providers/kubernetes/objects.ts';
import type { Loose } from '../../support/kubernetes/api.ts';
import type { ServiceScene } from './service-scene.ts';

const NETWORK = 'apis/networking.k8s.io/v1';
const KINDS = ['pods', 'services', 'secrets', 'configmaps', 'apis/batch/v1:jobs', `${NETWORK}:networkpolicies`];
/** What the cluster itself puts into every namespace. */
const CLUSTERS_OWN = ({ metadata, type }: Loose): boolean =>
  type === 'kubernetes.io/service-account-token' || metadata.name === 'kube-root-ca.crt';

export async function expectNothingLeft(scene: ServiceScene): Promise<void> {
  const { cluster, db } = scene;
  const names = async (kind: string) =>
    (await cluster.list(kind)).filter((each) => !CLUSTERS_OWN(each)).map((each) => `${kind}/${each.metadata.name}`);
  const all = async () => (await Promise.all(KINDS.map(names))).flat();
  // What a pod owned goes with it, but not in the same instant.
  await scene.until('what belonged to pods is gone', async () => (await all()).length === 0).catch(() => undefined);
  expect(await all()).toEqual([]);

  const { rows: disks } = await db.query<{ name: string }>(
    `select 'disk-' || disk_id as name from disks where purged_at is null`,
  );
  const found = await cluster.list('persistentvolumeclaims');
  const copies = found.filter(({ metadata }) => metadata.labels?.[LABEL.snapshot] !== undefined);
  const claims = found.filter((claim) => !copies.includes(claim)).map(({ metadata }) => metadata.name);
  expect(disks.map(({ name }) => name)).toEqual(expect.arrayContaining(claims));
  const { rows: complete } = await db.query<{ id: string }>(
    `select snapshot_id as id from disk_snapshots where status = 'complete'`,
  );
  const taken = await cluster.api.call('GET', cluster.path('apis/snapshot.storage.k8s.io/v1:volumesnapshots'));
  const snapshots = [...copies, ...(taken.status === 404 ? [] : taken.body.items)];
  expect(snapshots.map(({ metadata }: Loose) => metadata.name).sort()).toEqual(complete.map(({ id }) => id).sort());
  expect(copies.filter(({ metadata }) => metadata.annotations?.[ANNOTATION.complete] === undefined)).toEqual([]);

  const attachments = (await cluster.api.ask('GET', '/apis/storage.k8s.io/v1/volumeattachments')).items;
  expect(attachments.map(({ metadata }: Loose) => metadata.name)).toEqual([]);
  const { rows: busy } = await db.query(
    `select gpu_type, free, total from gpu_availability where total <> free or in_use + queued > 0`,
  );
  expect(busy).toEqual([]);
}
