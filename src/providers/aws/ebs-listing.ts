/** What there is in EBS of this installation, as its tags tell: for the comparison with the database, and to build one anew. */
import type { CloudDisks, CloudSnapshot, CloudVolume } from '../../../actors/reality/cloud-ports.ts';
import type { Ec2, SnapshotView, VolumeView } from './ec2.ts';
import { TAG, type Tags } from './tags.ts';

export class EbsListing implements CloudDisks {
  readonly #ec2: Ec2;

  constructor(ec2: Ec2) {
    this.#ec2 = ec2;
  }

  async *volumes(): AsyncGenerator<readonly CloudVolume[]> {
    for await (const page of this.#ec2.volumePages(this.#ours())) yield page.map(cloudVolume);
  }

  async *snapshots(): AsyncGenerator<readonly CloudSnapshot[]> {
    for await (const page of this.#ec2.snapshotPages(this.#ours())) yield page.map(cloudSnapshot);
  }

  async volumeIsGone(id: string): Promise<boolean> {
    return (await this.#ec2.volume(id)) === null;
  }

  async snapshotIsGone(id: string): Promise<boolean> {
    return (await this.#ec2.snapshot(id)) === null;
  }

  rename(volumeId: string, diskName: string): Promise<void> {
    return this.#ec2.tag([volumeId], { [TAG.diskName]: diskName });
  }

  #ours(): Record<string, string> {
    return { [TAG.cluster]: this.#ec2.service.settings.cluster };
  }
}

function cloudVolume({ id, state, zone, sizeGb, attachments, createdAt, tags }: VolumeView): CloudVolume {
  const reservationId = tags[TAG.reservation] ?? null;
  const attachedTo = attachments.map(({ instance }) => instance).sort();
  return { id, state, zone, sizeGb, attachedTo, createdAt, reservationId, ...facts(tags) };
}

function cloudSnapshot({ id, state, volumeId, sizeGb, startedAt, tags }: SnapshotView): CloudSnapshot {
  return { id, state, volumeId, sizeGb, startedAt, snapshotId: tags[TAG.snapshot] ?? null, ...facts(tags) };
}

function facts(tags: Tags) {
  const generation = Number(tags[TAG.generation]);
  const diskId = tags[TAG.disk] ?? '';
  return {
    diskId: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(diskId) ? diskId : null,
    owner: tags[TAG.owner] ?? null,
    diskName: tags[TAG.diskName] ?? null,
    generation: Number.isInteger(generation) && generation > 0 ? generation : null,
  };
}
