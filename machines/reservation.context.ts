/** What a reservation knows: its whole request, what it was given, what it waits for, and how it ended. */
import { z } from 'zod';
import { Moment, Uuid } from './authoring.ts';

/** The disk a reservation asked for; its identity is the id, the name is a label. */
export const RequestedDisk = z.object({ id: Uuid, name: z.string(), onBusy: z.enum(['wait', 'fail']) });

/** Membership in a gang: reservations that are granted together or not at all. */
export const GangMembership = z.object({
  id: Uuid,
  index: z.number().int().min(0),
  size: z.number().int().min(2),
});

/** The whole request as it was accepted. Nothing of it is lost while it waits. Secrets are held elsewhere, under `secretsRef`. */
export const ReservationRequest = z.object({
  gpuType: z.string(),
  gpuCount: z.number().int().min(0),
  durationHours: z.number().positive(),
  name: z.string(),
  githubUser: z.string().nullable(),
  image: z.string().nullable(),
  /** Content hash of the build context, if an image must be built first. */
  buildHash: z.string().nullable(),
  disk: RequestedDisk.nullable(),
  jupyter: z.boolean(),
  preserveEntrypoint: z.boolean(),
  recreateEnv: z.boolean(),
  command: z.string().nullable(),
  nodeLabels: z.record(z.string(), z.string()),
  gang: GangMembership.nullable(),
  /** Key of the secret values (environment variables, tokens) in the secrets table. */
  secretsRef: z.string().nullable(),
  clientVersion: z.string().nullable(),
  /** Fields of the message that we do not know, kept as they came. */
  extra: z.record(z.string(), z.unknown()),
});
export type ReservationRequest = z.infer<typeof ReservationRequest>;

/** The limits of the GPU type at the time of the request. */
export const StayPolicy = z.object({
  /** Hours that the stay may last in all, extensions included. */
  maxTotalHours: z.number().positive(),
  /** CPU request of one dev server, in thousandths of a core, and its memory in bytes. */
  cpuMillis: z.number().int().min(0),
  memoryBytes: z.number().int().min(0),
  /** Slots of the ledger that the reservation takes: its GPUs, MIG slices, or 1 on a CPU type. */
  slots: z.number().int().min(1),
});
export type StayPolicy = z.infer<typeof StayPolicy>;

export const Grant = z.object({ node: z.string(), slots: z.array(z.number().int()), zone: z.string().nullable() });
export type Grant = z.infer<typeof Grant>;

/** How one reaches the dev server. */
export const Connection = z.object({
  host: z.string(),
  port: z.number().int(),
  podName: z.string(),
  node: z.string(),
  sshCommand: z.string(),
});
export type Connection = z.infer<typeof Connection>;

export const Outcome = z.object({ status: z.enum(['expired', 'failed', 'cancelled']), reason: z.string() });
export type Outcome = z.infer<typeof Outcome>;

export const ReservationContext = z.object({
  id: z.string(),
  owner: z.string(),
  submittedAt: z.string(),
  request: ReservationRequest,
  policy: StayPolicy,
  /** Life number: rises each time the reservation goes back to the queue; a result of an earlier life is ignored. */
  generation: z.number().int(),
  gangComplete: z.boolean(),
  image: z.string().nullable(),
  disk: z.object({
    state: z.enum(['none', 'asked', 'acquired', 'attaching', 'attached', 'detached', 'captured', 'given-up']),
    holder: z.string().nullable(),
    claim: z.string().nullable(),
    snapshotId: z.string().nullable(),
  }),
  grant: Grant.nullable(),
  pod: z.object({ uid: z.string().nullable(), name: z.string().nullable(), ready: z.boolean() }),
  connection: Connection.nullable(),
  /** The domain under which it gets a name, as it was served at its birth; null: none. */
  domain: z.string().nullable(),
  /** Its name in DNS once it stands there; `problem` says why it never will. */
  hostname: z.object({ name: z.string().nullable(), problem: z.string().nullable() }),
  launchedAt: Moment.nullable(),
  expiresAt: Moment.nullable(),
  /** Hours granted in all so far. */
  totalHours: z.number(),
  /** Minutes of the warnings given since the last extension. */
  warned: z.array(z.number().int()),
  extension: z.object({ hours: z.number(), by: z.string().nullable() }).nullable(),
  /** Extensions asked for so far: an answer to an earlier one is ignored. */
  asks: z.number().int(),
  lastExtension: z.object({ hours: z.number(), granted: z.boolean(), reason: z.string().nullable(), at: z.string() }).nullable(),
  jupyter: z.object({
    state: z.enum(['off', 'starting', 'on', 'stopping', 'failed']),
    url: z.string().nullable(),
    port: z.number().int().nullable(),
    error: z.string().nullable(),
  }),
  /** GitHub names of the users added to the server, beside its owner. */
  users: z.array(z.string()),
  usersError: z.string().nullable(),
  oom: z.object({ count: z.number().int(), lastAt: z.string().nullable(), container: z.string().nullable() }),
  /** What a user reads about the present step. */
  detail: z.string(),
  /** Messages that could not be processed, the last five. */
  lost: z.array(z.string()),
  /** The first cause of the end; it stays the outcome whatever follows. */
  outcome: Outcome.nullable(),
});
export type ReservationContext = z.infer<typeof ReservationContext>;

/** What a server that runs already has: kept beside it on the cluster, for a database that knows nothing of it. */
export const AdoptedStay = z.object({
  submittedAt: z.string(),
  generation: z.number().int().min(1),
  image: z.string().nullable(),
  claim: z.string().nullable(),
  grant: Grant,
  pod: z.object({ uid: z.string(), name: z.string(), ready: z.boolean() }),
  connection: Connection,
  launchedAt: Moment,
  expiresAt: Moment,
  totalHours: z.number().positive(),
  warned: z.array(z.number().int()),
  jupyter: z.object({ state: z.enum(['off', 'on', 'failed']), url: z.string().nullable(), port: z.number().int().nullable() }),
  users: z.array(z.string()),
});
export type AdoptedStay = z.infer<typeof AdoptedStay>;

export const ReservationInput = z.object({
  id: z.string(),
  owner: z.string(),
  at: z.string(),
  request: ReservationRequest,
  policy: StayPolicy,
  domain: z.string().nullable(),
  /** Of a server that runs already; left out: there is none. */
  adopted: AdoptedStay.optional(),
});
export type ReservationInput = z.infer<typeof ReservationInput>;

const NO_REQUEST: ReservationRequest = {
  gpuType: '',
  gpuCount: 0,
  durationHours: 1,
  name: '',
  githubUser: null,
  image: null,
  buildHash: null,
  disk: null,
  jupyter: false,
  preserveEntrypoint: false,
  recreateEnv: false,
  command: null,
  nodeLabels: {},
  gang: null,
  secretsRef: null,
  clientVersion: null,
  extra: {},
};

/** The context at birth. XState calls the factory without input on every step, so it must bear `undefined`. */
export function newReservation(input: ReservationInput | undefined): ReservationContext {
  const context = unserved(input);
  return input?.adopted === undefined ? context : { ...context, ...served(input.adopted, context) };
}

/** What it knows beside its request if its server runs already. */
function served({ claim, jupyter, ...known }: AdoptedStay, { request, disk }: ReservationContext): Partial<ReservationContext> {
  return {
    ...known,
    gangComplete: true,
    disk: request.disk === null ? disk : { ...disk, state: 'attached', claim },
    jupyter: { ...jupyter, error: null },
    detail: known.pod.ready ? 'Running' : 'The server does not answer',
  };
}

function unserved(input: ReservationInput | undefined): ReservationContext {
  const request = input?.request ?? NO_REQUEST;
  return {
    id: input?.id ?? '',
    owner: input?.owner ?? '',
    submittedAt: input?.at ?? '',
    request,
    policy: input?.policy ?? { maxTotalHours: 48, cpuMillis: 0, memoryBytes: 0, slots: 1 },
    generation: 1,
    gangComplete: request.gang === null,
    image: request.buildHash === null ? request.image : null,
    disk: { state: 'none', holder: null, claim: null, snapshotId: null },
    grant: null,
    pod: { uid: null, name: null, ready: false },
    connection: null,
    domain: input?.domain ?? null,
    hostname: { name: null, problem: null },
    launchedAt: null,
    expiresAt: null,
    totalHours: request.durationHours,
    warned: [],
    extension: null,
    asks: 0,
    lastExtension: null,
    jupyter: { state: 'off', url: null, port: null, error: null },
    users: [],
    usersError: null,
    oom: { count: 0, lastAt: null, container: null },
    detail: 'Waiting in the queue',
    lost: [],
    outcome: null,
  };
}
