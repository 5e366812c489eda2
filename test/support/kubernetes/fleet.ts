// Node objects, as stand-in kubelets would register them.
import { fleetNodes } from '../../../src/simulated-cluster/fleet.ts';
import { parseSettings, type SettingsInput } from '../../../src/simulated-cluster/settings.ts';
import type { Api, Loose } from './api.ts';

export type Fleet = NonNullable<SettingsInput['fleet']>;

/** Register the nodes of a fleet ({ h100: 2 } gives h100-1 and h100-2); those that are there stay as they are. */
export async function addNodes(api: Api, fleet: Fleet, kubeletPort: number): Promise<void> {
  for (const node of fleetNodes(parseSettings({ fleet }), Date.now()))
    await api.ensure('/api/v1/nodes', registered(node, kubeletPort));
}

function registered({ metadata, spec, status, ...rest }: Loose, kubeletPort: number): Loose {
  const { uid: _uid, resourceVersion: _version, creationTimestamp: _at, ...own } = metadata;
  const address = status.addresses.find(({ type }: Loose) => type === 'InternalIP').address;
  return {
    ...rest,
    // Else the real controller for attachments takes the node for one that attaches its volumes by itself.
    metadata: { ...own, annotations: { 'volumes.kubernetes.io/controller-managed-attach-detach': 'true' } },
    spec,
    status: {
      ...status,
      // The API server reaches kubelets by the internal address; users would come by the external one.
      addresses: [
        { type: 'InternalIP', address: '127.0.0.1' },
        { type: 'ExternalIP', address },
        { type: 'Hostname', address: own.name },
      ],
      daemonEndpoints: { kubeletEndpoint: { Port: kubeletPort } },
    },
  };
}
