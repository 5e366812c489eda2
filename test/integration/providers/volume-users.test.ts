import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { v7 } from 'uuid';
import { diskKind } from '../../../actors/disk/kind.ts';
import { NotYet } from '../../../actors/errors.ts';
import type { KubernetesClient } from '../../../src/providers/kubernetes/client.ts';
import { KubernetesDevServers } from '../../../src/providers/kubernetes/dev-servers.ts';
import { VolumeUsers } from '../../../src/providers/local/volume-users.ts';
import { LocalVolumes } from '../../../src/providers/local/volumes.ts';
import { simulated } from '../../kubernetes/conformance/clusters.ts';
import type { OpenCluster } from '../../kubernetes/conformance/subject.ts';
import type { FaultProxy } from '../../support/kubernetes/fault-proxy.ts';
import { serverSpec, volumeRequest } from './support/specs.ts';
import { until } from './support/wait.ts';

const SESSIONS = 60;
const LOOKS = 4;

let cluster: OpenCluster;
let client: KubernetesClient;
let proxy: FaultProxy;
beforeAll(async () => {
  cluster = await simulated.open();
  ({ client, proxy } = await cluster.faulty());
});
afterAll(() => cluster.close());
beforeEach(async () => {
  await proxy.mend();
  proxy.requests.length = 0;
});

/** A claim that has its volume. */
async function bound(): Promise<{ claim: string; volume: string }> {
  const request = volumeRequest();
  const { claim } = await new LocalVolumes({ client: cluster.client }).ensure(request);
  const { core, namespace } = cluster.client;
  const volume = await until('the claim has its volume', async () => {
    const { spec, status } = await core.readNamespacedPersistentVolumeClaim({ namespace, name: claim });
    return status?.phase === 'Bound' ? spec?.volumeName : null;
  });
  return { claim, volume };
}

const lists = (kind: string): number => proxy.seen('GET', new RegExp(`/${kind}(\\?|$)`)).length;

describe('who uses a volume', () => {
  it('is asked for by many sessions that end at once, and costs one list a look and not one a session', async () => {
    const users = new VolumeUsers(client, { everyMs: 100 });
    const disks = await Promise.all(Array.from({ length: 6 }, bound));
    const session = async (index: number): Promise<number[]> => {
      const { claim, volume } = disks[index % disks.length]!;
      const answers: number[] = [];
      for (let look = 0; look < LOOKS; look += 1) answers.push(await users.of(claim, volume));
      return answers;
    };
    const answers = await Promise.all(Array.from({ length: SESSIONS }, (_, index) => session(index)));
    expect(answers.flat()).toEqual(Array<number>(SESSIONS * LOOKS).fill(0));
    // Its servers, the nodes that hold it, and, since this cluster does not say whether its driver attaches volumes, everybody.
    for (const list of [/\/pods\?labelSelector/, /\/volumeattachments\?/, /\/pods\?limit/]) {
      expect(proxy.seen('GET', list).length, String(list)).toBe(LOOKS);
    }
    expect(lists('pods')).toBe(2 * LOOKS);
  });

  it('is one list also for more claims than a list can name', async () => {
    const users = new VolumeUsers(client, { everyMs: 0 });
    const { claim } = await bound();
    const spec = serverSpec({ claim });
    const servers = new KubernetesDevServers({ client: cluster.client });
    await servers.create(spec);
    const claims = [claim, ...Array.from({ length: 120 }, () => `disk-${v7()}`)];
    const answers = await Promise.all(claims.map((each) => users.of(each, null)));
    expect(answers).toEqual([1, ...Array<number>(120).fill(0)]);
    expect(lists('pods')).toBe(1);
    await servers.remove(spec, { force: true });
  });

  it('is never told from a list that began before the question', async () => {
    const users = new VolumeUsers(client, { everyMs: 0 });
    const { claim } = await bound();
    proxy.fault({ verb: 'GET', path: /\/pods\?/, times: 1 }, { bytesPerSecond: 400 });
    const before = users.of(claim, null);
    await until('its list is on the way', () => proxy.seen('GET', /\/pods\?/).find(({ status }) => status === 200));
    const spec = serverSpec({ claim });
    const servers = new KubernetesDevServers({ client: cluster.client });
    await servers.create(spec);
    const after = users.of(claim, null);
    expect(lists('pods')).toBe(1);
    expect(await before).toBe(0);
    expect(await after).toBe(1);
    expect(lists('pods')).toBe(2);
    await servers.remove(spec, { force: true });
  });

  it('is unknown only to whom the cluster does not say', async () => {
    const users = new VolumeUsers(client, { everyMs: 0 });
    const [one, other] = [await bound(), await bound()];
    proxy.fault({ verb: 'GET', path: new RegExp(`/persistentvolumes/${one.volume}`) }, { status: 500 });
    const answers = () => Promise.allSettled([one, other].map(({ claim, volume }) => users.of(claim, volume)));
    expect(await answers()).toMatchObject([
      { status: 'rejected', reason: { status: 500 } },
      { status: 'fulfilled', value: 0 },
    ]);
    proxy.fault({ verb: 'GET', path: /\/volumeattachments/ }, { status: 500 });
    expect(await answers()).toMatchObject([{ status: 'rejected' }, { status: 'rejected', reason: { status: 500 } }]);
    await proxy.mend();
    expect(await answers()).toMatchObject([{ value: 0 }, { value: 0 }]);
  });

  it('is looked at less and less often while somebody does, and anew after the next session', async () => {
    const volumes = { detach: () => Promise.resolve('attached') };
    const { handlers } = diskKind({ volumes } as never);
    const look = async (effectId: string): Promise<number> => {
      const effect = { type: 'volume.detach', round: 1, diskId: 'd' };
      const context = { effectId, actor: 'disk/d', attempts: 0, signal: new AbortController().signal };
      const error: unknown = await handlers['volume.detach']!(effect, context).catch((reason: unknown) => reason);
      return error instanceof NotYet ? error.milliseconds : Number.NaN;
    };
    const pauses: number[] = [];
    for (let count = 0; count < 6; count += 1) pauses.push(await look('disk/d:7:0'));
    expect([...pauses, await look('disk/d:9:0')]).toEqual([500, 1_000, 2_000, 4_000, 5_000, 5_000, 500]);
  });
});
