/** Handlers that make a dev server: they gather the whole specification from what is stored, and hand it to the port. */
import type { ReservationContext } from '../../machines/reservation.context.ts';
import type { ReservationEffect } from '../../machines/reservation.effects.ts';
import type { ReservationMessage } from '../../machines/reservation.events.ts';
import { findActor, type StoredSnapshot } from '../../persistence/actor-store.ts';
import type { Store } from '../../persistence/database.ts';
import { ServerGoneError, TerminalError } from '../errors.ts';
import type { EffectContext } from '../kernel/kind.ts';
import { topState } from '../kernel/revive.ts';
import { Secret, withoutSecrets } from '../secret.ts';
import type { Names, Routes } from './name-ports.ts';
import type { DevServers, KeySource, ServerSpec } from './ports.ts';
import { type ServerType, sharesOf } from './shares.ts';

export interface ReservationPorts {
  db: Store;
  servers: DevServers;
  keys: KeySource;
  /** Where servers have names; without it they have their node's address. */
  names?: Names | null;
  /** What leads to Jupyter beside the node's port. */
  routes?: Routes | null;
}

type Create = Extract<ReservationEffect, { type: 'pod.create' | 'access.restore' }>;

/** The reservation as stored now. */
export async function readReservation(db: Store, actor: string): Promise<{ state: string; context: ReservationContext }> {
  return reservationOf(actor, (await findActor(db, actor))?.snapshot);
}

function reservationOf(actor: string, snapshot: StoredSnapshot | null | undefined) {
  if (snapshot == null) throw new TerminalError(`There is no ${actor}`);
  return { state: topState(snapshot.value), context: snapshot.context as ReservationContext };
}

export const READ_SECRETS = 'select value from secrets where secret_ref = $1';

/** Values that stand apart from the request because nobody may see them. */
export interface Secrets {
  environment: Secret<Record<string, string>>;
  jupyterToken: Secret<string>;
}

interface SecretValue {
  environment?: Record<string, string>;
  jupyterToken?: string;
}

/** @throws TerminalError if they are not there. */
export async function readSecrets(db: Store, ref: string | null): Promise<Secrets> {
  const { rows } = await db.query<{ value: SecretValue }>(READ_SECRETS, [ref]);
  return secretsOf(rows[0]?.value);
}

function secretsOf(value: SecretValue | null | undefined): Secrets {
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

/** All that is stored and goes into a server. */
interface Stored {
  snapshot: StoredSnapshot | null;
  secrets: SecretValue | null;
  /** null if it is no longer offered. */
  type: ServerType | null;
  /** Of the node that was granted; null if that has gone, or its address is not known. */
  address: string | null;
  nodeCpuMillis: number | null;
  nodeMemoryBytes: number | null;
}

export const WHAT_TO_CREATE = `
  select a.snapshot, s.value as secrets, n.address, n.cpu_millis as "nodeCpuMillis", n.memory_bytes as "nodeMemoryBytes",
         case when t.gpu_type is not null then
           jsonb_build_object('gpuType', t.gpu_type, 'instanceType', t.instance_type, 'resourceName', t.resource_name, 'maxGpus', t.max_gpus,
                              'maxPerNode', t.max_per_node, 'cpus', t.cpus, 'memoryGb', t.memory_gb, 'efaCount', t.efa_count) end as type
    from actors a
    left join secrets s on s.secret_ref = a.snapshot #>> '{context,request,secretsRef}'
    left join gpu_types t on t.gpu_type = a.snapshot #>> '{context,request,gpuType}' and t.is_active
    left join nodes n on n.node = $2
   where a.actor = $1`;

/** The specification of one life of a reservation. */
async function specOf(
  { keys }: ReservationPorts,
  effect: Create,
  context: ReservationContext,
  stored: Stored,
): Promise<ServerSpec> {
  const { request, policy } = context;
  const { type, nodeCpuMillis, nodeMemoryBytes } = stored;
  if (type === null) throw new TerminalError(`The GPU type ${request.gpuType} is no longer offered`);
  const node =
    nodeCpuMillis === null || nodeMemoryBytes === null ? null : { cpuMillis: nodeCpuMillis, memoryBytes: nodeMemoryBytes };
  const secrets = secretsOf(stored.secrets);
  const gathered = await gatherKeys(keys, context);
  return {
    reservationId: context.id,
    generation: effect.generation,
    owner: context.owner,
    name: request.name,
    gpuType: type.gpuType,
    gpuCount: request.gpuCount,
    instanceType: type.instanceType,
    ...sharesOf(type, request.gpuCount, policy, node),
    node: effect.grant.node,
    nodeAddress: stored.address,
    zone: effect.grant.zone,
    image: context.image,
    preserveEntrypoint: request.preserveEntrypoint,
    recreateEnv: request.recreateEnv,
    command: request.command,
    nodeLabels: request.nodeLabels,
    claim: effect.claim,
    environment: secrets.environment,
    authorizedKeys: gathered.lines,
    jupyterToken: secrets.jupyterToken,
    sshPort: effect.type === 'access.restore' ? (context.connection?.port ?? null) : null,
    gang: request.gang,
  };
}

/** Create or adopt the server of this generation; nothing if the reservation has moved on meanwhile. */
export async function createServer(
  ports: ReservationPorts,
  effect: Create,
  at: EffectContext,
): Promise<ReservationMessage | null> {
  const spec = await specFor(ports, effect, at, ['provisioning']);
  if (spec === null) return null;
  const { uid, name, connection } = await ports.servers.create(spec).catch((error: unknown) => {
    throw masked(error, spec);
  });
  return { type: 'pod.created', generation: effect.generation, uid, name, connection };
}

/** Whoever refuses an object may quote it: values that stand apart because nobody may see them stay out of errors, which users read. */
function masked(error: unknown, { environment, jupyterToken }: ServerSpec): unknown {
  if (!(error instanceof Error)) return error;
  const values = [...Object.values(environment.reveal()), jupyterToken.reveal()];
  error.message = withoutSecrets(error.message, values);
  if (error.stack !== undefined) error.stack = withoutSecrets(error.stack, values);
  return error;
}

/** Make again what is missing around a server that runs; nothing if it has gone or is on its way out. */
export async function restoreAccess(
  ports: ReservationPorts,
  effect: Create,
  at: EffectContext,
): Promise<ReservationMessage | null> {
  const spec = await specFor(ports, effect, at, ['running', 'extending']);
  if (spec === null) return null;
  try {
    const { uid, name, connection } = await ports.servers.restore(spec);
    return { type: 'pod.created', generation: effect.generation, uid, name, connection };
  } catch (error) {
    if (error instanceof ServerGoneError) return null;
    throw error;
  }
}

/** The specification, read anew; null if the reservation is in none of these states any more, or in another life. */
async function specFor(
  ports: ReservationPorts,
  effect: Create,
  at: EffectContext,
  states: readonly string[],
): Promise<ServerSpec | null> {
  const { rows } = await ports.db.query<Stored>(WHAT_TO_CREATE, [at.actor, effect.grant.node]);
  const stored = rows[0];
  const { state, context } = reservationOf(at.actor, stored?.snapshot);
  if (stored === undefined || !states.includes(state) || context.generation !== effect.generation) return null;
  return specOf(ports, effect, context, stored);
}
