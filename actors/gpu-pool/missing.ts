/**
 * What our rows know and the lists of the cluster do not have: it may have ended while nobody watched. A list that lacks something is no proof
 * of its end, so the API server is asked for each by name.
 */
import type { Queryable } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import type { ClusterState } from './cluster-state.ts';
import { readRecordedTypes } from './node-types.ts';
import { eachOf } from './parallel.ts';

export interface MissingPod {
  id: string;
  generation: number;
  uid: string;
}

export const BELIEVED_PODS = `select substr(actor, 13) as id, (snapshot #>> '{context,generation}')::int as generation, snapshot #>> '{context,pod,uid}' as uid
       from actors where kind = 'reservation' and state in ('provisioning', 'running', 'extending') and snapshot #>> '{context,pod,uid}' is not null`;

/** Pods in which a reservation believes. */
export async function missingPods(db: Queryable, state: ClusterState): Promise<MissingPod[]> {
  const { rows } = await db.query<MissingPod>(BELIEVED_PODS, []);
  return rows.filter(({ uid }) => !state.pods.has(uid));
}

/** Nodes that have a row. One that is listed is not missing, whatever its labels say. */
export async function missingNodes(db: Queryable, state: ClusterState): Promise<string[]> {
  return [...(await readRecordedTypes(db)).keys()].filter((node) => !state.nodes.has(node));
}

export interface Questions {
  confirmGone: (server: { reservationId: string; generation: number }) => Promise<boolean>;
  confirmNodeGone: (node: string) => Promise<boolean>;
  /** True when answers are no longer wanted. */
  isOver: () => boolean;
  onError: (error: unknown) => void;
}

/** A node that is proven gone, or the news of a pod that is. */
export type Found = { node: string } | { message: Message };

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
    ...pods.map(({ id, generation, uid }) => async (): Promise<Found | null> => {
      if (!(await confirmGone({ reservationId: id, generation }))) return null;
      const event = { type: 'pod.gone', generation, proof: 'the API server no longer has it' } as { type: string };
      return { message: { actor: `reservation/${id}`, key: `pod:${uid}:gone`, event, sender: 'tracker' } };
    }),
  ];
  const ask = async (question: () => Promise<Found | null>) => {
    if (isOver()) return;
    const answer = await question();
    if (answer !== null) await found(answer);
  };
  return eachOf(questions, ask, onError);
}
