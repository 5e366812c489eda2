/** Snapshots of a disk, and what was on it when one was taken. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { CONTENTS_CUTS } from '../../actors/disk/ports.ts';
import { type ContentsRow, readContents } from '../../persistence/disk-contents.ts';
import { type DiskRow, listSnapshots } from '../../persistence/disks.ts';
import { Problem } from '../errors.ts';
import type { Access } from '../identity/principal.ts';
import { MOMENT, NAME, NUMBER, openCursor, sealCursor } from './cursor.ts';
import type { HttpDeps, Server } from './deps.ts';
import { ByName, mustFindDisk, Whose } from './disk-access.ts';
import { SnapshotView, viewOfSnapshot } from './disk-view.ts';
import { problems } from './problems.ts';

const READS = { access: { scope: 'read', on: 'disk', role: 'view' } satisfies Access };
const Cursor = z.string().max(600).optional().meta({ description: '`next_cursor` of the page before.' });

const Entry = z.object({
  path: z.string().meta({
    description:
      'From the top of the disk, as one printable line: what cannot be printed, and the backslash, stand as in C (`\\n`, `\\xff`).',
  }),
  kind: z.enum(['file', 'folder', 'link', 'other']),
  size: z.number().nullable().meta({ description: 'Bytes of a file; null if nobody knows.' }),
});
const Contents = z
  .object({
    disk_name: z.string(),
    snapshot_id: z.string(),
    snapshot_date: z.string(),
    listed_at: z.string().meta({ description: 'When it was looked at: at the end of the session, or while it was copied.' }),
    entries: z.array(Entry).meta({ description: 'In the order of their paths.' }),
    kept: z.number().int().meta({ description: 'Entries of the whole listing.' }),
    total: z
      .number()
      .int()
      .nullable()
      .meta({ description: 'Entries that there were on the disk; null if not all were counted.' }),
    left_out: z
      .number()
      .int()
      .nullable()
      .meta({ description: 'Entries that the listing did not keep; null if nobody knows how many.' }),
    cut: z.array(z.enum(CONTENTS_CUTS)).meta({
      description:
        'Why the listing ends before the disk does; empty if all is there. `entries`: more than 5,000. `bytes`: too long. `depth`: more than 8 levels. `time`: it took too long. `unread`: something could not be read.',
    }),
    size_bytes: z.number().nullable().meta({ description: 'Sum of all files; null if not all of them are known.' }),
    s3_path: z.string().nullable().meta({ description: 'Where the listing is kept, if not in the database.' }),
    next_cursor: z.string().nullable(),
  })
  .meta({ description: 'What was on a disk when a snapshot of it was taken.' });

const WhichSnapshot = Whose.extend({
  snapshot_id: z.string().max(200).optional().meta({ description: 'Left out: the latest.' }),
});

export function diskSnapshotRoutes(app: Server, deps: HttpDeps): void {
  const { db } = deps;
  app.get(
    '/v1/disks/:name/snapshots',
    {
      config: READS,
      schema: {
        tags: ['disks'],
        summary: 'Snapshots of a disk, newest first',
        params: ByName,
        querystring: Whose.extend({ limit: z.coerce.number().int().min(1).max(500).default(100), cursor: Cursor }),
        response: {
          200: z.object({ snapshots: z.array(SnapshotView), next_cursor: z.string().nullable() }),
          ...problems(400, 401, 403, 404, 503),
        },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const place = openCursor(cursor, MOMENT, NAME);
      const disk = await mustFindDisk(db, request, request.params.name);
      const after = place === null ? null : { place: place[0], id: place[1] };
      const rows = await listSnapshots(db, disk.id, { limit: limit + 1, after });
      const last = rows.length > limit ? rows[limit - 1]! : null;
      return {
        snapshots: rows.slice(0, limit).map((row) => viewOfSnapshot(row, disk.latest_snapshot_id)),
        next_cursor: last === null ? null : sealCursor(last.place, last.id),
      };
    },
  );

  app.get(
    '/v1/disks/:name/contents',
    {
      config: READS,
      schema: {
        tags: ['disks'],
        summary: 'What was on a disk when its latest snapshot was taken, page by page',
        description: '404 `GPU_CONTENTS_UNKNOWN` if nobody has listed it; 410 if the disk is deleted.',
        params: ByName,
        querystring: WhichSnapshot.extend({ limit: z.coerce.number().int().min(1).max(1_000).default(200), cursor: Cursor }),
        response: { 200: Contents, ...problems(400, 401, 403, 404, 410, 503) },
      },
    },
    async (request) => {
      const { snapshot_id: wished, limit, cursor } = request.query;
      // A page goes on in the listing in which it began, whatever the latest is by now.
      const place = openCursor(cursor, NAME, NUMBER);
      const disk = await mustFindDisk(db, request, request.params.name);
      const from = place === null ? 0 : Number(place[1]);
      const found = await contentsOf(deps, disk, place?.[0] ?? wished ?? null, from, limit);
      const next = from + found.entries.length;
      return {
        ...found,
        disk_name: disk.name,
        next_cursor: next < found.kept ? sealCursor(found.snapshot_id, String(next)) : null,
      };
    },
  );

  app.get(
    '/v1/disks/:name/content',
    {
      config: READS,
      schema: {
        tags: ['disks'],
        summary: 'The same as one text, its first thousand entries, for older clients',
        params: ByName,
        querystring: WhichSnapshot,
        response: {
          200: z.object({
            disk_name: z.string(),
            content: z.string(),
            s3_path: z.string().nullable(),
            snapshot_date: z.string(),
            message: z.string(),
          }),
          ...problems(400, 401, 403, 404, 410, 503),
        },
      },
    },
    async (request: FastifyRequest<{ Params: { name: string }; Querystring: { snapshot_id?: string } }>) => {
      const disk = await mustFindDisk(db, request, request.params.name);
      const found = await contentsOf(deps, disk, request.query.snapshot_id ?? null, 0, 1_000);
      return {
        disk_name: disk.name,
        content: found.entries.map(({ path, kind }) => (kind === 'folder' ? `${path}/` : path)).join('\n'),
        s3_path: found.s3_path,
        snapshot_date: found.snapshot_date,
        message: `${found.entries.length} of ${found.total ?? `more than ${found.kept}`} entries, as they were in ${found.snapshot_id}`,
      };
    },
  );
}

/** @throws Problem 410 if the disk is deleted, 404 if that snapshot is not listed, 503 if the listing cannot be had now */
async function contentsOf(deps: HttpDeps, disk: DiskRow, wished: string | null, from: number, limit: number) {
  if (disk.is_deleted) throw new Problem('GPU_DISK_GONE', `The disk ${disk.name} is deleted`, { field: 'name' });
  const snapshotId = wished ?? disk.latest_snapshot_id;
  const found = snapshotId === null ? null : await readContents(deps.db, disk.id, snapshotId, from, limit);
  const entries = found === null ? null : (found.entries ?? (await entriesIn(deps, disk, found))?.slice(from, from + limit));
  if (found === null || entries == null) {
    const what = snapshotId === null ? 'there is no snapshot of it yet' : `nobody has listed what is in ${snapshotId}`;
    throw new Problem('GPU_CONTENTS_UNKNOWN', `What is on the disk ${disk.name} is not known: ${what}`, { field: 'name' });
  }
  return {
    snapshot_id: found.snapshot_id,
    snapshot_date: found.snapshot_date.toISOString(),
    listed_at: found.listed_at.toISOString(),
    entries: entries as z.infer<typeof Entry>[],
    kept: found.kept,
    total: found.total,
    left_out: found.total === null ? null : found.total - found.kept,
    cut: found.cut as (typeof CONTENTS_CUTS)[number][],
    size_bytes: found.size_bytes,
    s3_path: found.object,
  };
}

/** What an object holds; null if it is not there. */
async function entriesIn({ contents }: HttpDeps, disk: DiskRow, { object }: ContentsRow) {
  const unavailable = (cause?: unknown) =>
    Object.assign(
      new Problem('GPU_CONTENTS_UNAVAILABLE', `What is on the disk ${disk.name} is kept in a store that does not answer now`),
      { cause },
    );
  if (object === null) return null;
  if (!contents?.owns(object)) throw unavailable();
  try {
    return (await contents.get(object))?.entries ?? null;
  } catch (error) {
    throw unavailable(error);
  }
}
