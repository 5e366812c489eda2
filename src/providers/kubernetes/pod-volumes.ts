/** What a dev server finds mounted. */
import { createHash } from 'node:crypto';
import type { V1Volume, V1VolumeMount } from '@kubernetes/client-node';
import type { ServerSpec } from '../../../actors/reservation/ports.ts';
import { ACCESS_FOLDER, HOME, SCRIPTS_FOLDER, STATE_FOLDER } from './layout.ts';
import { accessSecretName, labelValue, scriptsName } from './objects.ts';

/** A volume that all servers share, with a folder for each person. */
export type SharedVolume = { claim: string } | { nfs: { server: string; path: string } };

/** Room on the node's own disk for what ends with the server. Who fills more is evicted, and not the neighbours. */
const SCRATCH = '500Gi';

/** No fsGroup with any of them: with it, the node would change the owner of each file of a disk before the server starts. */
export function volumes(spec: ServerSpec, shared: SharedVolume | null, personal: string | null): V1Volume[] {
  return [
    {
      name: 'home',
      ...(spec.claim === null ? { emptyDir: { sizeLimit: SCRATCH } } : { persistentVolumeClaim: { claimName: spec.claim } }),
    },
    { name: 'workspace', emptyDir: { sizeLimit: SCRATCH } },
    { name: 'shm', emptyDir: { medium: 'Memory', sizeLimit: String(spec.sharedMemoryBytes) } },
    { name: 'state', emptyDir: {} },
    // Readable by root alone: sshd and Jupyter's start read it, other people's processes need not.
    { name: 'access', secret: { secretName: accessSecretName(spec), defaultMode: 0o400 } },
    { name: 'scripts', configMap: { name: scriptsName(spec), defaultMode: 0o555 } },
    ...(shared === null ? [] : [sharedVolume(shared)]),
    ...(personal === null ? [] : [{ name: 'personal', nfs: { server: personal, path: '/' } }]),
  ];
}

export function mounts(spec: ServerSpec, shared: SharedVolume | null, personal: string | null): V1VolumeMount[] {
  const folder = { name: 'shared', mountPath: '/shared-personal', subPath: `personal/${folderOf(spec.owner)}` };
  return [
    { name: 'home', mountPath: HOME },
    { name: 'workspace', mountPath: '/workspace' },
    { name: 'shm', mountPath: '/dev/shm' },
    { name: 'state', mountPath: STATE_FOLDER },
    { name: 'access', mountPath: ACCESS_FOLDER, readOnly: true },
    { name: 'scripts', mountPath: SCRIPTS_FOLDER, readOnly: true },
    ...(shared === null
      ? []
      : [{ name: 'shared', mountPath: '/shared', subPath: 'shared' }, ...(personal === null ? [folder] : [])]),
    ...(personal === null ? [] : [{ name: 'personal', mountPath: '/shared-personal' }]),
  ];
}

/** A folder for one person alone: names that a folder cannot bear as they are get their sum, so that no two become one. */
function folderOf(owner: string): string {
  const name = labelValue(owner);
  if (name === owner && !/-[0-9a-f]{16}$/.test(name)) return name;
  return `${name.slice(0, 40)}-${createHash('sha256').update(owner).digest('hex').slice(0, 16)}`;
}

function sharedVolume(shared: SharedVolume): V1Volume {
  return 'claim' in shared
    ? { name: 'shared', persistentVolumeClaim: { claimName: shared.claim } }
    : { name: 'shared', nfs: shared.nfs };
}
