// What the pages show of the whole. One connection brings the topics of the page that is open.
import { useEffect } from 'react';
import { listen, type ServerEvent } from './events.ts';
import type { BoardFrame, BoardPatch, Disk, Effect, LifecycleFrame, OperationsFrame } from './types.ts';
import { createStore, type Store } from './ui/store.ts';

export interface BuildLog {
  state: string | null;
  lines: { at: string; attempt: number; line: string }[];
}

export const lifecycle = createStore<LifecycleFrame | null>(null);
export const board = createStore<BoardFrame | null>(null);
export const operations = createStore<OperationsFrame | null>(null);
export const disks = createStore<Disk[] | null>(null);
export const effects = createStore<Effect[] | null>(null);
export const buildLog = createStore<BuildLog | null>(null);

const STORES: Record<string, Store<never>> = {
  lifecycle: lifecycle as never,
  board: board as never,
  operations: operations as never,
  disks: disks as never,
  effects: effects as never,
  'build-log': buildLog as never,
};

/** Keep these topics up to date while the page is shown. @param reservation whose effects and build log are meant */
export function useLive(topics: string, reservation?: string): void {
  useEffect(() => {
    const of = reservation === undefined ? '/v1/live' : `/v1/reservations/${encodeURIComponent(reservation)}/live`;
    const stop = listen(`${of}?topics=${topics}`, { onEvent: take });
    return () => {
      stop();
      // What is shown next must not be of somebody else.
      for (const topic of ['effects', 'build-log']) if (topics.includes(topic)) STORES[topic]!.set(null as never);
    };
  }, [topics, reservation]);
}

function take({ name, data }: ServerEvent): void {
  if (name === 'board.patch') board.set((now) => (now === null ? now : patched(now, data as BoardPatch)));
  else if (name === 'build-log.patch') {
    const more = data as BuildLog;
    buildLog.set((now) => (now === null ? now : { state: more.state, lines: [...now.lines, ...more.lines] }));
  } else STORES[name]?.set(data as never);
}

function patched(now: BoardFrame, patch: BoardPatch): BoardFrame {
  const { types = now.types, waiting = now.waiting } = patch;
  if (patch.nodes.length === 0 && patch.gone.length === 0) return { ...now, types, waiting };
  const changed = new Map(patch.nodes.map((node) => [node.node, node]));
  const gone = new Set(patch.gone);
  const kept = now.nodes
    .filter(({ node }) => !gone.has(node))
    .map((node) => {
      const next = changed.get(node.node);
      changed.delete(node.node);
      return next ?? node;
    });
  const nodes = changed.size === 0 ? kept : [...kept, ...changed.values()].sort(byType);
  return { types, nodes, waiting };
}

function byType(a: { gpu_type: string; node: string }, b: { gpu_type: string; node: string }): number {
  if (a.gpu_type !== b.gpu_type) return a.gpu_type < b.gpu_type ? -1 : 1;
  return a.node < b.node ? -1 : 1;
}
