import { z } from 'zod';

const delay = (milliseconds: number) => z.number().min(0).default(milliseconds);

const delays = z.object({
  /** From a pod's creation (or from a change that may let it in) to its binding. */
  schedule: delay(20),
  /** Pulling an image a node does not have yet; an image it has takes none. */
  pull: delay(300),
  /** From pulled to started, for each container. */
  start: delay(50),
  /** How long an init container runs. */
  init: delay(50),
  /** From started to ready, for each container. */
  ready: delay(100),
  /** From deletion to gone; never longer than the grace the deletion gives. */
  terminate: delay(100),
  /** From a VolumeSnapshot's creation to readyToUse. */
  snapshot: delay(500),
  /** How long a pod that runs to completion runs. */
  job: delay(1000),
  /** From a claim to its volume. */
  provision: delay(50),
  /** Attaching a volume to a node, and detaching it once its last pod there is gone. */
  attach: delay(20),
  detach: delay(50),
  /** Until the garbage collector looks at an object whose owner is gone. */
  collect: delay(20),
  /** Pause before a container's second start; doubles with each start up to the maximum. */
  crashBackoff: delay(500),
  crashBackoffMax: delay(10_000),
  /** From a node's last sign of life to Ready=Unknown. */
  nodeGrace: delay(1000),
  /** Until a pod whose node object is gone is removed. */
  orphan: delay(1000),
});

const fleetEntry = z.object({
  nodes: z.number().int().min(0),
  instanceType: z.string().optional(),
  gpus: z.number().int().min(0).optional(),
  gpuResource: z.string().optional(),
  cpu: z.number().positive().optional(),
  memoryGi: z.number().positive().optional(),
  arch: z.enum(['amd64', 'arm64']).optional(),
  efa: z.number().int().min(0).optional(),
});

const schema = z
  .object({
    seed: z.number().int().default(1),
    delays: delays.prefault({}),
    /** GPU type -> number of nodes, or an entry that describes them. Left out: the standard fleet. Used on an empty folder only. */
    fleet: z.record(z.string(), z.union([z.number().int().min(0), fleetEntry])).optional(),
    /** Divides tolerationSeconds (default 300 s) when pods of a lost node are evicted. 60 makes 5 s of it. */
    evictionSpeed: z.number().positive().default(60),
    /** False: a cluster that does not know VolumeSnapshots. */
    volumeSnapshots: z.boolean().default(true),
    /** How many changes a watch can go back before it gets 410. */
    eventLogLimit: z.number().int().min(10).default(20_000),
    /** How long Events are kept. */
    eventTtlSeconds: z.number().positive().default(3600),
    /** Bookmarks are sent this often to watches that ask for them. */
    bookmarkMs: z.number().positive().default(10_000),
  })
  .strict();

export type Settings = z.infer<typeof schema>;
/** What --settings takes; every field has a default. */
export type SettingsInput = z.input<typeof schema>;
export type FleetEntry = z.infer<typeof fleetEntry>;
export type Delays = Settings['delays'];

/** Fills in defaults. Throws a ZodError that names the field when something is wrong. */
export function parseSettings(input: unknown): Settings {
  return schema.parse(input ?? {});
}
