/** Whose disks a request means, and which one. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { UserName } from '../../actors/intake/messages.ts';
import type { Queryable } from '../../persistence/database.ts';
import { type DiskRow, findDiskRow } from '../../persistence/disks.ts';
import { Problem } from '../errors.ts';
import { requireUser } from './user.ts';

/** The disk in a path: its name, or its id. */
export const ByName = z.object({ name: z.string().min(1).max(64) });
/** Whose disk it is. */
export const Whose = z.object({
  user: UserName.optional().meta({ description: 'Its owner; another than oneself is for admins.' }),
});

/** The owner whose disks this request means. @throws Problem 403 if only an admin may mean them */
export function ownerOf(request: FastifyRequest, inBody?: unknown): string {
  const { user } = request.query as { user?: string };
  if (user !== undefined && inBody != null && inBody !== user) {
    throw new Problem('GPU_FIELD_INVALID', 'The field user_id and the parameter user name two users', { field: 'user_id' });
  }
  return requireUser(request, user ?? inBody);
}

/** @throws Problem 404 if the owner has no such disk: those of others are none of anybody's business */
export async function mustFindDisk(db: Queryable, request: FastifyRequest, reference: string): Promise<DiskRow> {
  const disk = await findDiskRow(db, ownerOf(request), reference);
  if (disk === null) throw noDisk(reference);
  return disk;
}

export function noDisk(reference: string): Problem {
  return new Problem('GPU_DISK_UNKNOWN', `There is no disk ${reference.slice(0, 64)}`, { field: 'name' });
}
