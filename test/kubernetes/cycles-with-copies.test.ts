import { realCluster } from '../support/kubernetes/real-cluster.ts';
import { reservationsEndClean } from './support/cycles.ts';

/** As cycles.test.ts, where the cluster takes no snapshots: each end of a session is a Job that copies a disk. */
const cycles = Number(process.env.GPU_DEV_CYCLES ?? 9);
const seed = Number(process.env.GPU_DEV_CYCLES_SEED ?? Date.now() % 100_000);

// Long enough for a death of the service to come in between.
const cluster = await realCluster({ own: true, fleet: { h100: 2, 'cpu-x86': 1 }, snapshots: false, delays: { job: 1_000 } });
reservationsEndClean(cluster, { cycles, seed, what: ', with copies for snapshots' });
