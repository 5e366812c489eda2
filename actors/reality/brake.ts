/**
 * The brake: when most of the running servers vanish at once and nobody saw a deletion, it is likelier that we look at the wrong thing (a cluster
 * restored from an old backup, an API server that serves half of its store) than that they all ended. Then nobody is told before an operator has
 * given a word. Deletions that a watch saw, of pods or of their nodes, and ends that we brought about ourselves never count.
 */
import type { Queryable } from '../../persistence/database.ts';
import { keepWaiting, readVanished } from '../../persistence/vanished-pods.ts';

/** Fewer servers than these may all vanish. */
const FEWEST = 10;
/** What vanished within so many seconds vanished at once. */
const AT_ONCE_SECONDS = 600;

/** A pod in which a reservation believes. */
export interface Vanishing {
  /** Of its reservation. */
  id: string;
  uid: string;
}

export interface Weighed {
  /** Uids of those of which nobody may be told; empty if there is no reason for doubt. */
  held: ReadonlySet<string>;
  /** The operator's word for those that have one, by uid. */
  words: ReadonlyMap<string, string>;
  /** In words for an operator; null if nothing is held. */
  why: string | null;
}

/**
 * Whether these may be told of.
 * @param vanished those of which no deletion was seen
 * @param believed all in which reservations believe, the vanished ones too
 * @param note false changes nothing; true records which ones wait for a word
 * @throws the database's error
 */
export async function weigh(
  db: Queryable,
  vanished: readonly Vanishing[],
  believed: readonly Vanishing[],
  { note }: { note: boolean },
): Promise<Weighed> {
  const rows = await readVanished(db, AT_ONCE_SECONDS);
  const told = new Set(rows.filter((row) => row.told).map(({ podUid }) => podUid));
  // What an operator has vouched for is explained.
  const unexplained = rows.filter((row) => row.told && row.word === null).map(({ podUid }) => podUid);
  const words = new Map(rows.flatMap(({ podUid, word }) => (word === null ? [] : [[podUid, word] as const])));
  const waiting = vanished.filter(({ uid }) => !told.has(uid) && !words.has(uid));
  const all = new Set([...believed.map(({ uid }) => uid), ...unexplained]).size;
  const gone = waiting.length + unexplained.length;
  const brakes = waiting.length > 0 && all >= FEWEST && gone * 2 > all;
  const waits = vanished.filter(({ uid }) => !told.has(uid) && (words.has(uid) || brakes));
  if (note && (waits.length > 0 || rows.some((row) => !row.told))) await keepWaiting(db, waits);
  if (!brakes) return { held: new Set(), words, why: null };
  const why = `${gone} of ${all} running servers vanished without anybody seeing them deleted. Nobody is told before an operator says that it is true: gpu-dev admin accept-vanished --reason …`;
  return { held: new Set(waiting.map(({ uid }) => uid)), words, why };
}
