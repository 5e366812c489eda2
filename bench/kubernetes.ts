/** What the service costs a real Kubernetes API server, and what a large cluster costs the service. */
import { eachAtOnce, type Node, nodeOf, podOn } from './support/large-cluster.ts';
import { processorSeconds } from './support/processor.ts';
import { RealStage } from './support/real-stage.ts';
import type { BenchServer } from './support/server.ts';
import { create, memoryOf, type Wish } from './support/stage.ts';
import { type Percentiles, percentilesOf, round } from './support/statistics.ts';

export interface KubernetesFigures {
  /** Calls of one reservation from its wish to its end, by verb and kind; watches and the lists of a start are not among them. */
  kubernetesCalls: Record<'withoutDisk' | 'withDisk', Record<string, number> & { sum: number }>;
  /** From the turn that grants capacity to the pod, its keys and its Service: as the outbox has it. */
  grantToPodMs: Percentiles;
  /** By size of the cluster. */
  tracker: Record<string, { firstViewSeconds: number; rssMb: number; msPerChange: number; requestsPerChange: number }>;
  /** The service with so many servers being provisioned. */
  inFlight: { servers: number; rssMb: number; peakMb: number; seconds: number };
}

interface Options {
  log: (line: string) => void;
}

const RUNNING = `select count(*)::int as n from reservations where status = 'running'`;
const OVER = `select count(*)::int as n from reservations where status in ('cancelled', 'failed', 'expired')`;
const CREATES = `
  select extract(epoch from ended_at - created_at) * 1000 as ms from effects where type = 'pod.create' and status = 'done' order by ended_at`;

export async function measureKubernetes(server: BenchServer, { log }: Options): Promise<KubernetesFigures> {
  const { calls, grantToPodMs } = await measureCalls(server);
  log(JSON.stringify({ calls, grantToPodMs }));
  const tracker: KubernetesFigures['tracker'] = {};
  for (const [nodes, pods] of [
    [100, 1_000],
    [1_000, 10_000],
  ] as const) {
    tracker[`${nodes} nodes, ${pods} pods`] = await measureTracker(server, nodes, pods);
    log(JSON.stringify(tracker));
  }
  const inFlight = await measureInFlight(server, 2_000);
  log(JSON.stringify(inFlight));
  return { kubernetesCalls: calls, grantToPodMs, tracker, inFlight };
}

/** Reservations one after the other, without a disk and with one. */
async function measureCalls(server: BenchServer) {
  const each = 20;
  const stage = await RealStage.start(server, { h100: 4 });
  try {
    await stage.service();
    const calls: Record<string, Record<string, number> & { sum: number }> = {};
    let ended = 0;
    const live = async (wish: Wish & { reservation_id: string }) => {
      await stage.send([wish]);
      await stage.until('it runs', async () => (await stage.count(RUNNING)) === 1);
      await stage.send([{ action: 'cancel', reservation_id: wish.reservation_id, user_id: wish['user_id'] }]);
      ended += 1;
      await stage.until('it is over', async () => (await stage.count(OVER)) === ended);
    };
    await live(create());
    for (const [name, wishOf] of [
      ['withoutDisk', () => create()],
      ['withDisk', () => create({ disk_name: 'default' })],
    ] as const) {
      stage.proxy.requests.length = 0;
      for (let index = 0; index < each; index++) await live(wishOf());
      calls[name] = countCalls(stage.proxy.requests, each);
    }
    const { rows } = await stage.db.query<{ ms: string }>(CREATES);
    return {
      calls: calls as KubernetesFigures['kubernetesCalls'],
      grantToPodMs: percentilesOf(rows.map(({ ms }) => Number(ms))),
    };
  } finally {
    await stage.stop();
  }
}

/** Kind, name and subresource of a path, in a namespace or not. */
const PATH = /^\/(?:api|apis\/[^/]+)\/[^/]+\/(?:namespaces\/[^/]+\/)?([^/?]+)(?:\/([^/?]+))?(?:\/([^/?]+))?/;

function countCalls(requests: readonly { verb: string; path: string }[], each: number) {
  const counts: Record<string, number> & { sum: number } = { sum: 0 };
  for (const { verb, path } of requests) {
    if (verb === 'WATCH') continue;
    const [, kind = '', name, subresource] = PATH.exec(path) ?? [];
    const what = `${verb === 'GET' && name === undefined ? 'LIST' : verb} ${kind}${subresource === undefined ? '' : `/${subresource}`}`;
    counts[what] = (counts[what] ?? 0) + 1;
    counts.sum += 1;
  }
  for (const what of Object.keys(counts)) counts[what] = round(counts[what]! / each, 2);
  return counts;
}

/** The first view of a large cluster, and then one change after the other: none of it may cost more because the cluster is larger. */
async function measureTracker(server: BenchServer, nodes: number, pods: number) {
  const stage = await RealStage.start(server, {});
  try {
    const names: Node[] = Array.from({ length: nodes }, (_, index) => nodeOf(index));
    await eachAtOnce(names, 16, async (node) => {
      await stage.api.ensure('/api/v1/nodes', node);
      await stage.api.ask(
        'PATCH',
        `/api/v1/nodes/${node.metadata.name}/status`,
        { status: node.status },
        'application/merge-patch+json',
      );
    });
    const bodies = Array.from({ length: pods }, (_, index) => podOn(names[index % nodes]!.metadata.name, index));
    await eachAtOnce(bodies, 16, (pod) => stage.api.ask('POST', '/api/v1/namespaces/default/pods', pod));
    const since = performance.now();
    const program = await stage.service();
    await stage.until(
      'all nodes are known',
      async () => (await stage.count('select count(*)::int as n from nodes')) >= nodes,
      120_000,
    );
    const firstViewSeconds = round((performance.now() - since) / 1_000, 2);
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    const { now: rssMb } = memoryOf(program.child.pid!);

    const changes = 500;
    stage.proxy.requests.length = 0;
    const before = processorSeconds(program.child.pid!);
    const path = (index: number) => `/api/v1/namespaces/default/pods/${bodies[index]!.metadata.name}?gracePeriodSeconds=0`;
    await eachAtOnce(
      Array.from({ length: changes }, (_, index) => index),
      4,
      async (index) => {
        await stage.api.ask('DELETE', path(index));
      },
    );
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    const msPerChange = round(((processorSeconds(program.child.pid!) - before) * 1_000) / changes, 3);
    return {
      firstViewSeconds,
      rssMb: round(rssMb),
      msPerChange,
      requestsPerChange: round(stage.proxy.requests.length / changes, 3),
    };
  } finally {
    await stage.stop();
  }
}

/** Many servers whose image is still being pulled. */
async function measureInFlight(server: BenchServer, servers: number) {
  const stage = await RealStage.start(server, { h100: servers / 8 }, { pull: 3_600_000 });
  try {
    const program = await stage.service(false);
    const since = performance.now();
    await stage.send(Array.from({ length: servers }, (_, index) => create({ user_id: `user-${index % 97}` })));
    const CREATED = `select count(*)::int as n from effects where type = 'pod.create' and status = 'done'`;
    await stage.until('every pod is there', async () => (await stage.count(CREATED)) >= servers, 600_000);
    const seconds = round((performance.now() - since) / 1_000, 1);
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    const { now, peak } = memoryOf(program.child.pid!);
    return { servers, rssMb: round(now), peakMb: round(peak), seconds };
  } finally {
    await stage.stop();
  }
}
