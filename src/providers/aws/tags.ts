/** Tags of what we make in AWS. A tag alone proves nothing, for others copy tags: what is destroyed bears ours, and its id is on record. */

export const TAG = {
  /** Which installation of ours made it. */
  cluster: 'gpu-dev:cluster',
  owner: 'gpu-dev:owner',
  disk: 'gpu-dev:disk',
  /** The disk's label when it was last told. */
  diskName: 'gpu-dev:disk-name',
  /** What only the database knows of a disk (src/rebuild/records.ts). */
  record: 'gpu-dev:record',
  /** Number of the volume among those of its disk. */
  generation: 'gpu-dev:generation',
  /** Our own id of a snapshot. */
  snapshot: 'gpu-dev:snapshot',
  /** Who had the disk when it was made. */
  reservation: 'gpu-dev:reservation',
  name: 'Name',
} as const;

export type Tags = Readonly<Record<string, string>>;

export interface TagPair {
  Key?: string | undefined;
  Value?: string | undefined;
}

/** As AWS sends them. */
export function readTags(pairs: readonly TagPair[] | undefined): Tags {
  return Object.fromEntries((pairs ?? []).flatMap(({ Key, Value }) => (Key === undefined ? [] : [[Key, Value ?? '']])));
}

/** As AWS wants them; those without a value are left out. */
export function writeTags(tags: Record<string, string | null | undefined>): { Key: string; Value: string }[] {
  return Object.entries(tags).flatMap(([Key, Value]) => (Value == null ? [] : [{ Key, Value: tagValue(Value) }]));
}

/** Text as the value of a tag: 256 characters of letters, digits, spaces and `_.:/=+-@`. */
export function tagValue(text: string): string {
  return text.replace(/[^\p{L}\p{Z}\p{N}_.:/=+\-@]/gu, '_').slice(0, 256);
}

/** Whether these are the tags that we gave, to the letter. */
export function bearsTags(tags: Tags, wanted: Record<string, string>): boolean {
  return Object.entries(wanted).every(([key, value]) => tags[key] === tagValue(value));
}
