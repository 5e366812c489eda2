/**
 * A real Kubernetes control plane with stand-ins for what it lacks, as a process of its own: `node main.ts JSON` with `programs`, `folder`,
 * `fleet` and `delays`. Says `{"ready": true, ...}`, serves a control page on 127.0.0.1, and ends with its standard input, so that it never
 * outlives whoever started it, however that one ends.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Api, MERGE, STRATEGIC } from './api.ts';
import { ControlPlane } from './control-plane.ts';
import { addNodes, type Fleet } from './fleet.ts';
import { configOf } from './stand-ins/follow.ts';
import { StandInKubelets } from './stand-ins/kubelets.ts';
import { standInSnapshots } from './stand-ins/snapshots.ts';
import { standInVolumes } from './stand-ins/volumes.ts';

/** What the process is told at its start. */
export interface MainOptions {
  programs: string;
  folder: string;
  fleet: Fleet;
  delays: Record<string, number>;
  /** False: a cluster that does not know VolumeSnapshots, as Kubernetes by itself. */
  snapshots?: boolean;
}

const options = JSON.parse(process.argv[2] ?? '{}') as MainOptions;
let end: () => void = () => process.exit(0);
process.stdin.resume();
process.stdin.once('end', () => end());
process.stdin.once('error', () => end());
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => end());

const plane = await ControlPlane.start(options);
end = () => void plane.stop().then(() => process.exit(0));
const api = new Api(plane.access);
const config = configOf(plane.access);
const kubelets = await StandInKubelets.start({
  api,
  config,
  certificate: plane.certificate,
  certificateKey: plane.certificateKey,
  settings: { delays: options.delays },
});
await standInVolumes(api, config);
if (options.snapshots !== false) await standInSnapshots(api, config, options.delays['snapshot'] ?? 50);
await addNodes(api, options.fleet, kubelets.port);
const control = createServer((request, response) => {
  const path = request.url ?? '/';
  // Below /api is what the stand-in kubelets believe, Events included: for when a pod does not do what it should.
  if (path.startsWith('/simulation/pods/') || path.startsWith('/api/')) {
    kubelets.front.server.emit('request', request, response);
    return;
  }
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const text = Buffer.concat(chunks).toString();
    act(path, text === '' ? {} : JSON.parse(text)).then(
      () => response.end('{}'),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });
});
control.listen(0, '127.0.0.1', () => {
  const { port } = control.address() as AddressInfo;
  const { server, caFile, token } = plane.access;
  const facts = { ready: true, server, caFile, token, kubeconfig: plane.kubeconfig, certificateKey: plane.certificateKey };
  process.stdout.write(`${JSON.stringify({ ...facts, control: `http://127.0.0.1:${port}` })}\n`);
});

/** What befalls the cluster by the hand of a test. */
async function act(path: string, body: { fleet?: Fleet; forMs?: number }): Promise<void> {
  const [, subject, name = '', what = ''] = path.split('/');
  if (subject === 'api-server' && name === 'restart') {
    await plane.stopApiServer();
    await pause(body.forMs ?? 0);
    await plane.startApiServer();
  } else if (subject === 'fleet') await addNodes(api, body.fleet ?? {}, kubelets.port);
  else if (subject === 'nodes' && (what === 'lose' || what === 'recover')) await silence(name, what);
  else throw new Error(`no such call: ${path}`);
}

/** STAND-IN for the judge of silent nodes: a node that is lost is not Ready, and its kubelet neither starts nor stops anything. */
async function silence(node: string, what: 'lose' | 'recover'): Promise<void> {
  await fetch(`http://127.0.0.1:${kubelets.front.port}${join('/simulation/nodes', node, what)}`, { method: 'POST' });
  const lost = what === 'lose';
  const unreachable = { key: 'node.kubernetes.io/unreachable', effect: 'NoSchedule' };
  const condition = { type: 'Ready', status: lost ? 'Unknown' : 'True', reason: lost ? 'NodeStatusUnknown' : 'KubeletReady' };
  await api.ask('PATCH', `/api/v1/nodes/${node}/status`, { status: { conditions: [condition] } }, STRATEGIC);
  const { spec } = await api.ask('GET', `/api/v1/nodes/${node}`);
  const others = (spec.taints ?? []).filter(({ key }: { key: string }) => key !== unreachable.key);
  await api.ask('PATCH', `/api/v1/nodes/${node}`, { spec: { taints: lost ? [...others, unreachable] : others } }, MERGE);
}
