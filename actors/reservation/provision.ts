/** Handlers that make a dev server: they gather the whole specification from what is stored, and hand it to the port. */
import type { ReservationContext } from '../../machines/reservation.context.ts';
import type { ReservationEffect } from '../../machines/reservation.effects.ts';
import type { ReservationMessage } from '../../machines/reservation.events.ts';
import { findActor } from '../../persistence/actor-store.ts';
import type { Store } from '../../persistence/database.ts';
import { TerminalError } from '../errors.ts';
import { readCatalogue, slotsOf } from '../intake/catalogue.ts';
import type { EffectContext } from '../kernel/kind.ts';
import { topState } from '../kernel/revive.ts';
import { Secret } from '../secret.ts';
import type { DevServers, KeySource, ServerSpec } from './ports.ts';

export interface ReservationPorts {
  db: Store;
  servers: DevServers;
  keys: KeySource;
}

type Create = Extract<ReservationEffect, { type: 'pod.create' }>;

const SHARED_MEMORY_LIMIT = 64 * 1024 ** 3;

/** The reservation as stored now. */
export async function readReservation(db: Store, actor: string): Promise<{ state: string; context: ReservationContext }> {
  const row = await findActor(db, actor);
  if (row?.snapshot == null) throw new TerminalError(`There is no ${actor}`);
  return { state: topState(row.snapshot.value), context: row.snapshot.context as ReservationContext };
}

export const READ_SECRETS = 'select value from secrets where secret_ref = $1';

/** Values that stand apart from the request because nobody may see them. */
export async function readSecrets(
  db: Store,
  ref: string | null,
): Promise<{ environment: Secret<Record<string, string>>; jupyterToken: Secret<string> }> {
  const { rows } = await db.query<{ value: { environment?: Record<string, string>; jupyterToken?: string } }>(READ_SECRETS, [
    ref,
  ]);
  const value = rows[0]?.value;
  if (value?.jupyterToken === undefined) throw new TerminalError('The secret values of this reservation are missing');
  return { environment: new Secret(value.environment ?? {}), jupyterToken: new Secret(value.jupyterToken) };
}

/** Keys of the owner and of every user added, each once. An added user without keys is told of, not a reason to lock the owner out. */
export async function gatherKeys(
  keys: KeySource,
  context: ReservationContext,
): Promise<{ lines: string[]; problem: string | null }> {
  const owner = context.request.githubUser ?? context.owner;
  const lines = new Set(await keys.keysOf(owner));
  let problem: string | null = null;
  for (const user of context.users) {
    try {
      for (const line of await keys.keysOf(user)) lines.add(line);
    } catch (error) {
      if (!(error instanceof TerminalError)) throw error;
      problem = error.message;
    }
  }
  return { lines: [...lines], problem };
}

export const READ_NODE = 'select address, cpu_millis as cpu, memory_bytes as memory from nodes where node = $1';

/** The specification of one life of a reservation. */
async function specOf(ports: ReservationPorts, effect: Create, context: ReservationContext): Promise<ServerSpec> {
  const { db, keys } = ports;
  const { request, policy } = context;
  const [catalogue, secrets, gathered, node] = await Promise.all([
    readCatalogue(db),
    readSecrets(db, request.secretsRef),
    gatherKeys(keys, context),
    db.query<{ address: string | null; cpu: number; memory: number }>(READ_NODE, [effect.grant.node]),
  ]);
  const type = catalogue.get(request.gpuType);
  if (type === undefined) throw new TerminalError(`The GPU type ${request.gpuType} is no longer offered`);
  const slots = slotsOf(type, request.gpuCount);
  const share = slots / type.maxPerNode;
  const isCpu = type.resourceName === null;
  const isMig = type.gpuType.includes('-mig-');
  const row = node.rows[0];
  // Limits: half as much CPU again as the fair share, the whole share of memory; CPU types and MIG slices get what they request.
  const cpuLimitMillis = isCpu || isMig ? policy.cpuMillis : Math.min(type.cpus, Math.floor(type.cpus * share * 1.5)) * 1_000;
  const memoryLimitBytes = isCpu || isMig ? policy.memoryBytes : Math.floor(type.memoryGb * share) * 1024 ** 3;
  return {
    reservationId: context.id,
    generation: effect.generation,
    owner: context.owner,
    name: request.name,
    gpuType: type.gpuType,
    gpuCount: request.gpuCount,
    instanceType: type.instanceType,
    resource: type.resourceName === null ? null : { name: type.resourceName, count: slots },
    efaCount: share === 1 ? type.efaCount : 0,
    node: effect.grant.node,
    nodeAddress: row?.address ?? null,
    zone: effect.grant.zone,
    cpuRequestMillis: policy.cpuMillis,
    cpuLimitMillis: row === undefined ? cpuLimitMillis : Math.max(policy.cpuMillis, Math.min(cpuLimitMillis, row.cpu)),
    memoryRequestBytes: policy.memoryBytes,
    memoryLimitBytes: Math.max(policy.memoryBytes, memoryLimitBytes),
    sharedMemoryBytes: Math.min(SHARED_MEMORY_LIMIT, Math.floor(policy.memoryBytes / 2)),
    image: context.image,
    preserveEntrypoint: request.preserveEntrypoint,
    recreateEnv: request.recreateEnv,
    command: request.command,
    nodeLabels: request.nodeLabels,
    claim: effect.claim,
    environment: secrets.environment,
    authorizedKeys: gathered.lines,
    jupyterToken: secrets.jupyterToken,
    gang: request.gang,
  };
}

/** Create or adopt the server of this generation; nothing if the reservation has moved on meanwhile. */
export async function createServer(
  ports: ReservationPorts,
  effect: Create,
  at: EffectContext,
): Promise<ReservationMessage | null> {
  const { state, context } = await readReservation(ports.db, at.actor);
  if (state !== 'provisioning' || context.generation !== effect.generation) return null;
  const spec = await specOf(ports, effect, context);
  const { uid, name, connection } = await ports.servers.create(spec);
  return { type: 'pod.created', generation: effect.generation, uid, name, connection };
}
