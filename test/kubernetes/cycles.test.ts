import { realCluster } from '../support/kubernetes/real-cluster.ts';
import { reservationsEndClean } from './support/cycles.ts';

/** GPU_DEV_CYCLES=100 for the long one. The seed decides who is cancelled when, and when the service is killed. */
const cycles = Number(process.env.GPU_DEV_CYCLES ?? 9);
const seed = Number(process.env.GPU_DEV_CYCLES_SEED ?? Date.now() % 100_000);

const cluster = await realCluster({ own: true, fleet: { h100: 2, 'cpu-x86': 1 } });
reservationsEndClean(cluster, { cycles, seed, what: '' });
