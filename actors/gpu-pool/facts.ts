/** What the tracker has to write at one time, and the transaction that writes it. */
import { randomUUID } from 'node:crypto';
import { isRetryableDatabaseError, type Transaction } from '../../persistence/database.ts';
import { holdersOn, type NodeRow, removeNodes, writeNodes } from '../../persistence/gpu-nodes.ts';
import { assertLease, LeaseLostError } from '../../persistence/leases.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { lockSlots } from './ledger.ts';
import { moveSlots } from './node-types.ts';
import type { PodView } from './ports.ts';

export interface Facts {
  /** Nodes as they are now, where that has changed. */
  rows: NodeRow[];
  /** Nodes whose objects are deleted: proven, not merely unseen. */
  gone: string[];
  messages: Message[];
}

export interface Surroundings {
  /** Where messages go. */
  post: (messages: readonly Message[]) => unknown;
  lease: { name: string; token: number };
  pods: ReadonlyMap<string, PodView>;
  /** The type of each node on record. */
  recorded: ReadonlyMap<string, string>;
}

/**
 * Write them all: rows and slots of nodes, the news for pools and for those who held slots on a lost node.
 * @throws LeaseLostError if another process tracks now
 */
export async function writeFacts(tx: Transaction, around: Surroundings, { rows, gone, messages }: Facts): Promise<void> {
  const { post, lease, pods, recorded } = around;
  if (rows.length + gone.length === 0) {
    const [told] = await Promise.all([ofKnownActors(tx, messages), assertLease(tx, lease.name, lease.token)]);
    await post(told);
    return;
  }
  await assertLease(tx, lease.name, lease.token);
  const losses: Message[] = [];
  await lockSlots(tx);
  await writeNodes(tx, rows);
  if (rows.some((row) => (recorded.get(row.node) ?? row.gpuType) !== row.gpuType)) await moveSlots(tx, rows);
  for (const node of gone) losses.push(...lossOf(node, await holdersOn(tx, node), pods));
  if (gone.length > 0) await removeNodes(tx, gone);
  const news = newsOf(rows, gone, around);
  // A pool that was never opened is of a type that is not offered: it has nobody in line.
  await post(await ofKnownActors(tx, [...messages, ...losses, ...news]));
}

/** Every pool that has won, lost or changed a node is told. */
function newsOf(rows: readonly NodeRow[], gone: readonly string[], { lease, recorded }: Surroundings): Message[] {
  const types = new Set(rows.map((row) => row.gpuType));
  for (const node of [...gone, ...rows.map((row) => row.node)]) {
    const before = recorded.get(node);
    if (before !== undefined) types.add(before);
  }
  return [...types].map((type) => {
    const nodes = rows.filter((row) => row.gpuType === type).map((row) => row.node);
    const event = { type: 'nodes.changed', nodes } as { type: string };
    return { actor: `gpu-pool/${type}`, key: `nodes:${lease.token}:${randomUUID()}`, event, sender: 'tracker' };
  });
}

/** The node object is deleted: its pods are dead, and that is proof enough that nobody computes on its GPUs. */
function lossOf(
  node: string,
  holders: readonly { reservationId: string; generation: number }[],
  pods: ReadonlyMap<string, PodView>,
): Message[] {
  return holders.flatMap(({ reservationId, generation }) => {
    const actor = `reservation/${reservationId}`;
    const pod = [...pods.values()].find(
      ({ server }) => server?.reservationId === reservationId && server.generation === generation,
    );
    const died = { type: 'pod.died', generation, uid: pod?.uid ?? '', reason: `Node ${node} was lost` } as { type: string };
    const gone = { type: 'pod.gone', generation, proof: `node ${node} was deleted` } as { type: string };
    return [
      { actor, key: `node:${node}:${generation}:died`, event: died, sender: 'tracker' },
      { actor, key: `node:${node}:${generation}:gone`, event: gone, sender: 'tracker' },
    ];
  });
}

export const KNOWN_ACTORS = 'select actor from actors where actor = any($1::text[])';

/** Facts of pods whose reservation this database does not know are nobody's news: the pod belongs to another installation, or is left over. */
async function ofKnownActors(tx: Transaction, messages: readonly Message[]): Promise<Message[]> {
  if (messages.length === 0) return [];
  const { rows } = await tx.query<{ actor: string }>(KNOWN_ACTORS, [[...new Set(messages.map((message) => message.actor))]]);
  const known = new Set(rows.map((row) => row.actor));
  return messages.filter((message) => known.has(message.actor));
}

/** The same facts one by one, in an order that may be kept: nodes, their ends, messages as they came. */
export function piecesOf({ rows, gone, messages }: Facts): Facts[] {
  return [
    ...rows.map((row) => ({ rows: [row], gone: [], messages: [] })),
    ...gone.map((node) => ({ rows: [], gone: [node], messages: [] })),
    ...messages.map((message) => ({ rows: [], gone: [], messages: [message] })),
  ];
}

/** Classes of SQLSTATE that blame the data: bad text, a broken rule, too large, an exception of a trigger. */
const POISON = /^(22|23|54|P0|GD)/;

/** Whether the data themselves cannot be written, however often it is tried. A fault of the database or of the schema is not theirs. */
export function isPoison(error: unknown): boolean {
  if (error instanceof LeaseLostError || isRetryableDatabaseError(error)) return false;
  const { code } = error as { code?: unknown };
  return typeof code === 'string' ? POISON.test(code) : error instanceof TypeError || error instanceof RangeError;
}
