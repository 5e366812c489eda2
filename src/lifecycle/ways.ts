/**
 * Which transitions a step took, told from what history keeps of it: its event, where it was before and where it led. What was written before
 * history kept the finer states is followed with what the chart allows; where several ways are open, each gets its part.
 */
import type { AnyStateMachine, AnyStateNode } from 'xstate';
import { nodesOf } from '../../machines/rules.ts';

/** Ids of the states without states in them in which an actor may be. */
export type Leaves = ReadonlySet<string>;

interface Arrival {
  leaf: AnyStateNode;
  /** Ids of the transient transitions on the way. */
  through: string[];
}

interface Taken {
  ids: string[];
  leaf: string;
}

export interface Followed {
  /** By id of a transition: 1, or the part of it that falls to each of several that may have been taken. */
  taken: ReadonlyMap<string, number>;
  leaves: Leaves;
}

const NONE: ReadonlyMap<string, number> = new Map();

/** Deepest chain of transient transitions that is followed. */
const DEEPEST = 10;

export class Ways {
  readonly #nodes: AnyStateNode[];
  readonly #byId: ReadonlyMap<string, AnyStateNode>;
  readonly #root: AnyStateNode;

  constructor(machine: AnyStateMachine) {
    this.#nodes = nodesOf(machine);
    this.#root = machine.root as AnyStateNode;
    this.#byId = new Map(this.#nodes.map((node) => [node.id, node]));
  }

  /** Everything where an actor whose top-level state is this one may be. */
  leavesOf(top: string | null): Leaves {
    return new Set(this.#nodes.filter((node) => isLeaf(node) && node.path[0] === top).map(({ id }) => id));
  }

  /** Where one may be whose top-level state is this one: everywhere in it, or just there if that is known. */
  leavesAt(top: string | null, leaf: string | null): Leaves {
    const within = this.leavesOf(top);
    const exact = [...within].filter((id) => leaf !== null && this.#byId.get(id)!.path.slice(1).join('.') === leaf);
    return exact.length === 0 ? within : new Set(exact);
  }

  /**
   * What an applied step did. @param before where the actor may have been; null if nothing is known but its top-level state
   */
  follow(before: Leaves | null, step: { type: string; from: string | null; to: string | null; leaf: string | null }): Followed {
    const arrivals = step.from === null ? this.#born() : this.#moved(before ?? this.leavesOf(step.from), step.type);
    const ends = this.leavesAt(step.to, step.leaf);
    const fitting = arrivals.filter(({ leaf }) => ends.has(leaf));
    if (fitting.length === 0) return { taken: NONE, leaves: ends };
    const taken = new Map<string, number>();
    for (const { ids } of fitting) for (const id of ids) taken.set(id, (taken.get(id) ?? 0) + 1 / fitting.length);
    return { taken, leaves: new Set(fitting.map(({ leaf }) => leaf)) };
  }

  #born(): Taken[] {
    return this.#enter(this.#root, 0).map(({ leaf, through }) => ({ ids: through, leaf: leaf.id }));
  }

  #moved(leaves: Leaves, type: string): Taken[] {
    return [...leaves].flatMap((id) => {
      const leaf = this.#byId.get(id)!;
      for (let node: AnyStateNode | undefined = leaf; node !== undefined; node = node.parent) {
        const ways = node.transitions.get(type);
        if (ways === undefined) continue;
        const at = node;
        return ways.flatMap((way, index): Taken[] => {
          const own = `${at.id}|${type}|${index}`;
          const target = way.target?.[0] as AnyStateNode | undefined;
          if (target === undefined) return [{ ids: [own], leaf: id }];
          return this.#enter(target, 0).map(({ leaf: to, through }) => ({ ids: [own, ...through], leaf: to.id }));
        });
      }
      return [];
    });
  }

  /** Where one ends up who enters a state. */
  #enter(node: AnyStateNode, depth: number): Arrival[] {
    if (depth > DEEPEST) return [];
    if (node.type === 'history') return this.#nodes.filter((each) => isLeaf(each) && isWithin(each, node.parent!)).map(arrive);
    if (!isLeaf(node)) return this.#enter(node.initial!.target[0] as AnyStateNode, depth + 1);
    const always = node.always ?? [];
    const onward = always.flatMap((way, index) =>
      this.#enter((way.target?.[0] ?? node) as AnyStateNode, depth + 1).map(({ leaf, through }) => ({
        leaf,
        through: [`${node.id}|always|${index}`, ...through],
      })),
    );
    return always.some(({ guard }) => guard === undefined) ? onward : [...onward, arrive(node)];
  }
}

const arrive = (leaf: AnyStateNode): Arrival => ({ leaf, through: [] });

function isLeaf(node: AnyStateNode): boolean {
  return node.type === 'atomic' || node.type === 'final';
}

function isWithin(node: AnyStateNode, outer: AnyStateNode): boolean {
  return node === outer || (node.parent !== undefined && isWithin(node.parent, outer));
}
