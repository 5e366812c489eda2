/** All that remains of what a lost database knew: on the cluster, in the cloud, and in names. */
import type { PodView } from '../../actors/gpu-pool/ports.ts';
import type { DiskRemains, FoundNames, FoundServer, Remains, ServerSecrets } from '../rebuild/ports.ts';
import type { ServerRemains } from './kubernetes/remains.ts';

export class JointRemains implements Remains {
  readonly disks: DiskRemains;
  readonly #servers: ServerRemains;
  readonly #names: (() => Promise<ReadonlyMap<string, FoundNames>>) | null;

  constructor(servers: ServerRemains, disks: DiskRemains, names: (() => Promise<ReadonlyMap<string, FoundNames>>) | null) {
    this.#servers = servers;
    this.disks = disks;
    this.#names = names;
  }

  servers(): Promise<FoundServer[]> {
    return this.#servers.servers();
  }

  secretsOf(server: { reservationId: string; generation: number }): Promise<ServerSecrets> {
    return this.#servers.secretsOf(server);
  }

  viewOf(pod: string): Promise<PodView | null> {
    return this.#servers.viewOf(pod);
  }

  keepServer(server: { pod: string; uid: string }, record: string): Promise<boolean> {
    return this.#servers.keepServer(server, record);
  }

  async names(): Promise<ReadonlyMap<string, FoundNames> | null> {
    return (await this.#names?.()) ?? null;
  }
}
