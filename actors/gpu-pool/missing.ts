/**
 * What our rows know and the lists of the cluster do not have: it may have ended while nobody watched. A list that lacks something is no proof
 * of its end, so the API server is asked for each by name.
 */
import type { Queryable, Store } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { noteTold } from '../../persistence/vanished-pods.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { weigh } from '../reality/brake.ts';
import type { ClusterState } from './cluster-state.ts';
import { readRecordedTypes } from './node-types.ts';
import { eachOf } from './parallel.ts';

export interface MissingPod {
  id: string;
  generation: number;
  uid: string;
  /** The word of an operator for its end, if one was needed. */
  word?: string;
}

export const BELIEVED_PODS = `select substr(actor, 13) as id, (snapshot #>> '{context,generation}')::int as generation, snapshot #>> '{context,pod,uid}' as uid
       from actors where kind = 'reservation' and state in ('provisioning', 'running', 'extending') and snapshot #>> '{context,pod,uid}' is not null`;

/** Pods in which a reservation believes. */
export async function believedPods(db: Queryable): Promise<MissingPod[]> {
  return (await db.query<MissingPod>(BELIEVED_PODS, [])).rows;
}

/** Those that the cluster's lists do not have. */
export async function missingPods(db: Queryable, state: ClusterState): Promise<MissingPod[]> {
  return (await believedPods(db)).filter(({ uid }) => !state.pods.has(uid));
}

/** Nodes that have a row. One that is listed is not missing, whatever its labels say. */
export async function missingNodes(db: Queryable, state: ClusterState): Promise<string[]> {
  return [...(await readRecordedTypes(db)).keys()].filter((node) => !state.nodes.has(node));
}

/** Why a pod is taken for gone that nobody saw go. */
export const goneProof = (word: string | undefined): string =>
  `the API server no longer has it${word === undefined ? '' : `; by the word of ${word}`}`;

export interface Questions {
  confirmGone: (server: { reservationId: string; generation: number }) => Promise<boolean>;
  confirmNodeGone: (node: string) => Promise<boolean>;
  /** True when answers are no longer wanted. */
  isOver: () => boolean;
  onError: (error: unknown) => void;
}

/** A node that is proven gone, or the news of a pod that is. */
export type Found = { node: string } | { message: Message; pod: MissingPod };

/**
 * Ask for each, a few at a time.
 * @returns how many questions found no answer: ask again later.
 */
export function askForMissing(
  { nodes, pods }: { nodes: readonly string[]; pods: readonly MissingPod[] },
  { confirmGone, confirmNodeGone, isOver, onError }: Questions,
  found: (what: Found) => Promise<void>,
): Promise<number> {
  const questions = [
    ...nodes.map((node) => async (): Promise<Found | null> => ((await confirmNodeGone(node)) ? { node } : null)),
    ...pods.map((pod) => async (): Promise<Found | null> => {
      const { id, generation, uid, word } = pod;
      if (!(await confirmGone({ reservationId: id, generation }))) return null;
      const proof = goneProof(word);
      const event = { type: 'pod.gone', generation, proof } as { type: string };
      return { message: { actor: `reservation/${id}`, key: `pod:${uid}:gone`, event, sender: 'tracker' }, pod };
    }),
  ];
  const ask = async (question: () => Promise<Found | null>) => {
    if (isOver()) return;
    const answer = await question();
    if (answer !== null) await found(answer);
  };
  return eachOf(questions, ask, onError);
}

/**
 * Look for what is missing, and ask for it unless most of it vanished at once. Those that are proven gone are told to their reservations.
 * @param braked told each time why nobody is told; null if nothing is held back
 * @param nodeGone told of each node that is proven gone
 * @returns how many questions found no answer
 * @throws the database's error
 */
export async function searchMissing(
  around: { db: Store; kernel: Kernel; state: ClusterState; questions: Questions },
  braked: (why: string | null) => void,
  nodeGone: (node: string) => void,
): Promise<number> {
  const { db, kernel, state, questions } = around;
  const lost = await missingNodes(db, state);
  const believed = await believedPods(db);
  state.departures.forgetAllBut(new Set(believed.map(({ uid }) => uid)));
  const nodeOf = ({ uid }: MissingPod) => state.pods.get(uid)?.node ?? null;
  const vanished = believed.filter((pod) => !state.pods.has(pod.uid) || lost.includes(nodeOf(pod) ?? ''));
  // An end that was seen is on its way to its reservation, and no reason for doubt.
  const isSeen = (pod: MissingPod) => state.departures.isSeen(pod.uid, nodeOf(pod) ?? undefined);
  const unseen = vanished.filter((pod) => !isSeen(pod));
  const { held, words, why } = await weigh(db, unseen, believed, { note: true });
  braked(why);
  // Nodes that vanished along with most servers are as doubtful as these.
  const nodes = why === null ? lost : lost.filter((node) => state.departures.isNodeSeen(node));
  const pods = vanished
    .filter(({ uid }) => !state.pods.has(uid) && !held.has(uid))
    .map((pod) => ({ ...pod, ...(words.has(pod.uid) ? { word: words.get(pod.uid)! } : {}) }));
  return askForMissing({ nodes, pods }, questions, async (found) => {
    if ('node' in found && (questions.isOver() || state.nodes.has(found.node))) return;
    const told = 'node' in found ? vanished.filter((pod) => nodeOf(pod) === found.node) : [found.pod];
    await db.withTransaction(async (tx) => {
      for (const pod of told) if (!isSeen(pod)) await noteTold(tx, pod);
      if ('message' in found) await kernel.post([found.message], tx);
    });
    if ('node' in found) nodeGone(found.node);
    else kernel.wake();
  });
}
