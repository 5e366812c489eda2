/**
 * STAND-IN for the CSI driver of EBS: what the cluster wants attached is attached in EC2, and what it wants no more is detached. Binding, and who
 * wants what, is the cluster's own work.
 */
import type { V1VolumeAttachment } from '@kubernetes/client-node';
import { PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import type { KubernetesClient } from '../../../src/providers/kubernetes/client.ts';

export interface Attaching {
  attach(volumeId: string, node: string): Promise<void>;
  detach(volumeId: string, node: string): Promise<void>;
}

const LOOK_MS = 30;

/** @param onError told why a look was cut short; the next one tries again */
export function standInCsi(
  client: KubernetesClient,
  ec2: Attaching,
  onError: (error: unknown) => void = () => undefined,
): { stop(): Promise<void> } {
  const held = new Map<string, { volumeId: string; node: string }>();
  let stopped = false;

  async function handleOf(attachment: V1VolumeAttachment): Promise<string | null> {
    const name = attachment.spec.source.persistentVolumeName ?? '';
    const found = await client.core.readPersistentVolume({ name }).catch(() => null);
    return found?.spec?.csi?.driver === 'ebs.csi.aws.com' ? found.spec.csi.volumeHandle : null;
  }
  async function look(): Promise<void> {
    const { items } = await client.storage.listVolumeAttachment();
    const there = new Map(items.map((each) => [each.metadata?.name ?? '', each]));
    for (const [name, attachment] of there) {
      if (held.has(name)) continue;
      const volumeId = await handleOf(attachment);
      if (volumeId === null) continue;
      const node = attachment.spec.nodeName;
      await ec2.attach(volumeId, node);
      held.set(name, { volumeId, node });
      if (attachment.status?.attached === true) continue;
      await client.storage.patchVolumeAttachmentStatus(
        { name, body: { status: { attached: true } } },
        setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
      );
    }
    for (const [name, { volumeId, node }] of held) {
      if (there.has(name)) continue;
      await ec2.detach(volumeId, node);
      held.delete(name);
    }
  }
  const done = (async () => {
    while (!stopped) {
      await look().catch(onError);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  })();
  return {
    async stop() {
      stopped = true;
      await done;
    },
  };
}
