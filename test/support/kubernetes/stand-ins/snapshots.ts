/** STAND-IN for the snapshot controller and its CRDs: a snapshot of a bound claim becomes ready after a while, with the claim's size. */
import { setTimeout as pause } from 'node:timers/promises';
import type { KubeConfig } from '@kubernetes/client-node';
import { type Api, type Loose, MERGE } from '../api.ts';
import { follow, insist } from './follow.ts';
import { DRIVER } from './volumes.ts';

const GROUP = 'snapshot.storage.k8s.io';
const SNAPSHOTS = `/apis/${GROUP}/v1/volumesnapshots`;
const DEFINITIONS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

const KINDS = [
  { kind: 'VolumeSnapshot', plural: 'volumesnapshots', scope: 'Namespaced', short: ['vs'] },
  { kind: 'VolumeSnapshotContent', plural: 'volumesnapshotcontents', scope: 'Cluster', short: ['vsc'] },
  { kind: 'VolumeSnapshotClass', plural: 'volumesnapshotclasses', scope: 'Cluster', short: ['vsclass'] },
];

export async function standInSnapshots(api: Api, config: KubeConfig, delayMs: number): Promise<{ stop(): Promise<void> }> {
  await Promise.all(KINDS.map((each) => api.ensure(DEFINITIONS, definition(each))));
  await Promise.all(KINDS.map((each) => established(api, `/apis/${GROUP}/v1/${each.plural}`)));
  await api.ensure(`/apis/${GROUP}/v1/volumesnapshotclasses`, {
    apiVersion: `${GROUP}/v1`,
    kind: 'VolumeSnapshotClass',
    metadata: { name: 'standard', annotations: { 'snapshot.storage.kubernetes.io/is-default-class': 'true' } },
    driver: DRIVER,
    deletionPolicy: 'Delete',
  });
  let stopped = false;
  const begun = new Set<string>();
  const { stop } = follow(api, config, SNAPSHOTS, {
    changed: ({ metadata, spec, status }) => {
      if (status?.readyToUse || begun.has(metadata.uid)) return;
      begun.add(metadata.uid);
      void capture(api, { metadata, spec }, delayMs, () => stopped).finally(() => begun.delete(metadata.uid));
    },
  });
  return {
    async stop() {
      stopped = true;
      await stop();
    },
  };
}

/** The fields are not checked: the real definitions' rules are not ours to repeat. */
function definition({ kind, plural, scope, short }: (typeof KINDS)[number]): Loose {
  const schema = { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    // Names below k8s.io are for those who can show that they were agreed upon.
    metadata: { name: `${plural}.${GROUP}`, annotations: { 'api-approved.kubernetes.io': 'unapproved, stand-in for tests' } },
    spec: {
      group: GROUP,
      scope,
      names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List`, shortNames: short },
      versions: [{ name: 'v1', served: true, storage: true, subresources: { status: {} }, schema }],
    },
  };
}

/** A definition is served a moment after it was made. */
async function established(api: Api, path: string): Promise<void> {
  for (let tries = 0; (await api.call('GET', path)).status !== 200; tries += 1) {
    if (tries > 600) throw new Error(`${path} is not served`);
    await pause(50);
  }
}

async function capture(api: Api, { metadata, spec }: Loose, delayMs: number, stopped: () => boolean): Promise<void> {
  const { namespace, name, uid } = metadata;
  const claimName = spec.source?.persistentVolumeClaimName;
  await pause(delayMs);
  await insist(async () => {
    const snapshot = await api.call('GET', `/apis/${GROUP}/v1/namespaces/${namespace}/volumesnapshots/${name}`);
    if (snapshot.status === 404 || snapshot.body.metadata?.uid !== uid) return { status: 404 };
    const claim = await api.call('GET', `/api/v1/namespaces/${namespace}/persistentvolumeclaims/${claimName}`);
    const restoreSize = claim.body.status?.capacity?.storage;
    const ready = claim.status === 200 && restoreSize !== undefined;
    const message = `Failed to create snapshot: claim ${namespace}/${claimName} is not bound to a volume`;
    const status = ready
      ? { readyToUse: true, restoreSize, creationTime: now(), boundVolumeSnapshotContentName: `snapcontent-${uid}`, error: null }
      : { readyToUse: false, error: { message, time: now() } };
    const path = `/apis/${GROUP}/v1/namespaces/${namespace}/volumesnapshots/${name}/status`;
    const written = await api.call('PATCH', path, { status }, MERGE);
    return { status: ready ? written.status : 503 };
  }, stopped);
}

const now = (): string => new Date().toISOString();
