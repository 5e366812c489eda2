/** Variables of a dev server that everybody may see. The user's own are in a Secret. */
import type { V1EnvVar } from '@kubernetes/client-node';
import type { ServerSpec } from '../../../actors/reservation/ports.ts';
import { PORTS } from './layout.ts';
import { gangAddress } from './services.ts';

/** What a tool would otherwise take from the node's core count: a share of 24 cores must not run 192 threads. */
const THREAD_VARIABLES = [
  'OMP_NUM_THREADS',
  'MKL_NUM_THREADS',
  'NUMEXPR_MAX_THREADS',
  'OPENBLAS_NUM_THREADS',
  'GOMAXPROCS',
  'MAX_JOBS',
  'CMAKE_BUILD_PARALLEL_LEVEL',
  'GPU_DEV_THREAD_COUNT',
];

/** Interfaces by exclusion: their names differ from machine to machine, and a wrong one hangs. */
const WITH_GPU = { NVIDIA_DRIVER_CAPABILITIES: 'compute,utility', NCCL_SOCKET_IFNAME: '^lo,docker' };
const WITH_EFA = { FI_PROVIDER: 'efa', FI_EFA_USE_DEVICE_RDMA: '1', NCCL_NET_GDR_LEVEL: 'SYS', NCCL_IB_HCA: '^mlx' };

export function environment(spec: ServerSpec, { namespace, shared }: { namespace: string; shared: boolean }): V1EnvVar[] {
  const threads = String(Math.max(1, Math.floor(spec.cpuLimitMillis / 1000)));
  const defaults: Record<string, string> = {
    ...Object.fromEntries(THREAD_VARIABLES.map((name) => [name, threads])),
    MAKEFLAGS: `-j${threads}`,
    ...(spec.resource === null ? {} : WITH_GPU),
    ...(spec.efaCount > 0 ? WITH_EFA : {}),
    ...(shared ? { CCACHE_DIR: '/shared/ccache' } : {}),
    ...(spec.gang === null ? {} : { MASTER_ADDR: gangAddress(spec.gang.id, namespace), MASTER_PORT: String(PORTS.rendezvous) }),
  };
  const facts: Record<string, string> = {
    GPU_DEV_RESERVATION_ID: spec.reservationId,
    GPU_DEV_USER_ID: spec.owner,
    GPU_DEV_NAME: spec.name,
    GPU_DEV_SSH_PORT: String(PORTS.ssh),
    GPU_TYPE: spec.gpuType,
    GPU_COUNT: String(spec.gpuCount),
    SUPPORTS_EFA: String(spec.efaCount > 0),
    USE_PERSISTENT_DISK: String(spec.claim !== null),
    CREATE_SH_ENV: String(spec.recreateEnv || spec.claim === null),
    ...(spec.command !== null && !spec.preserveEntrypoint ? { GPU_DEV_COMMAND: spec.command } : {}),
    ...(spec.gang === null
      ? {}
      : {
          GPU_DEV_GANG_ID: spec.gang.id,
          NODE_RANK: String(spec.gang.index),
          NNODES: String(spec.gang.size),
        }),
  };
  // `env` wins over `envFrom`: a default gives way to the user's own value, a fact does not.
  const own = spec.environment.reveal();
  const kept = Object.entries(defaults).filter(([name]) => !(name in own));
  return [...kept, ...Object.entries(facts)].map(([name, value]) => ({ name, value: literal(value) }));
}

/** Kubernetes expands $(NAME) in values; ours are meant as they stand. */
const literal = (value: string): string => value.replaceAll('$(', () => '$$(');
