/**
 * What is kept beside servers and disks so that a database can be built anew: all that only the database knows of them. It is written where the
 * thing itself is (an annotation, tags), so it lives and dies with it.
 */
import { z } from 'zod';
import { Uuid } from '../../machines/authoring.ts';
import type { DiskContext } from '../../machines/disk.machine.ts';
import { AdoptedStay, type ReservationContext, ReservationRequest, StayPolicy } from '../../machines/reservation.context.ts';

const VERSION = 1;

/** A server that is usable. Its pod tells by itself which one it is, and whether it is ready. */
export const ServerRecord = z.object({
  v: z.literal(VERSION),
  id: z.string(),
  owner: z.string(),
  request: ReservationRequest,
  policy: StayPolicy,
  domain: z.string().nullable(),
  stay: AdoptedStay.omit({ pod: true }),
});
export type ServerRecord = z.infer<typeof ServerRecord>;

export const DiskRecord = z.object({
  v: z.literal(VERSION),
  id: Uuid,
  owner: z.string().min(1),
  name: z.string().regex(/^[a-zA-Z0-9_-]{1,63}$/),
  sizeGb: z.number().int().min(1).max(16_384),
  /** The snapshot that the next volume starts from, and the newest one there was: they differ after a restore. */
  latest: z.string().nullable(),
  newest: z.string().nullable(),
  createdAt: z.iso.datetime({ offset: true }),
  /** Deleted by its owner, until then to be brought back. */
  deleteAt: z.iso.datetime({ offset: true }).nullable(),
  /** Nothing of it is its owner's any more. */
  purged: z.boolean(),
  /** When its disk changed last: of two records of one disk the later one holds. Earlier versions did not say. */
  at: z.iso.datetime({ offset: true }).nullable().default(null),
  /** Rises with each change, and begins anew with each database: it orders what `at` does not. */
  seq: z.number().int(),
});
export type DiskRecord = z.infer<typeof DiskRecord>;

/** The record of a server, of what its reservation knows; null while there is no usable server. */
export function serverRecord(context: ReservationContext): ServerRecord | null {
  const { id, owner, request, policy, domain, grant, connection, launchedAt, expiresAt, jupyter } = context;
  if (grant === null || connection === null || launchedAt === null || expiresAt === null) return null;
  const on = jupyter.state === 'on';
  return {
    v: VERSION,
    id,
    owner,
    // Fields that we do not know may be long, and nobody reads them.
    request: { ...request, extra: {} },
    policy,
    domain,
    stay: {
      submittedAt: context.submittedAt,
      generation: context.generation,
      image: context.image,
      claim: context.disk.claim,
      grant,
      connection,
      launchedAt,
      expiresAt,
      totalHours: context.totalHours,
      warned: context.warned,
      jupyter: {
        state: on ? 'on' : jupyter.state === 'failed' ? 'failed' : 'off',
        url: on ? jupyter.url : null,
        port: on ? jupyter.port : null,
      },
      users: context.users,
    },
  };
}

/** The record of a disk. */
export function diskRecord(
  { id, owner, name, sizeGb, latestSnapshot: latest, deleteAt }: DiskContext,
  more: { newest: string | null; createdAt: string; purged: boolean; at: string; seq: number },
): DiskRecord {
  return { v: VERSION, id, owner, name, sizeGb, latest, deleteAt, ...more };
}

/** Text of a record; the same facts give the same text, whatever the order in which they came. */
export function writeRecord(record: ServerRecord | DiskRecord): string {
  const sorted = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(sorted);
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(
      Object.entries(value)
        .sort(([one], [other]) => (one < other ? -1 : 1))
        .map(([key, inner]) => [key, sorted(inner)]),
    );
  };
  return JSON.stringify(sorted(record));
}

/** What a record is about: the same text as long as nothing but its time and its number has changed. */
export function gistOf(text: string): string {
  return text.replace(/^\{"at":(null|"[^"]*"),/, '{').replace(/"seq":\d+,?/, '');
}

/** The later of two records of one disk comes first. A number counts within one database only; one without a time is of an earlier version. */
export function laterFirst(one: DiskRecord, other: DiskRecord): number {
  const [a, b] = [one, other].map(({ at }) => (at === null ? 0 : Date.parse(at))) as [number, number];
  return b - a || other.seq - one.seq;
}

/** A record as it was found, or why it is none. */
export type Read<T> = { record: T } | { flaw: string };

export const readServerRecord = (text: string | null): Read<ServerRecord> => read(ServerRecord, text);
export const readDiskRecord = (text: string | null): Read<DiskRecord> => read(DiskRecord, text);

function read<T>(shape: z.ZodType<T>, text: string | null): Read<T> {
  if (text === null) return { flaw: 'it has no record' };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { flaw: 'its record is not JSON' };
  }
  const found = shape.safeParse(value);
  if (found.success) return { record: found.data };
  const issue = found.error.issues[0]!;
  return { flaw: `its record is incomplete (${issue.path.join('.')}: ${issue.message})` };
}
