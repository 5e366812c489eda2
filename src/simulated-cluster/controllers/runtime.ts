import { copyJson } from '../copy.ts';
import { sameJson } from '../patch.ts';
import type { KubeObject, Loose } from '../types.ts';
import type { World } from '../world.ts';

/** What the kubelet knows of one container beyond its status. Times are virtual milliseconds. */
export interface ContainerRun {
  state: 'waiting' | 'pulling' | 'creating' | 'running' | 'backoff' | 'done';
  /** When the present step ends, for pulling, creating and backoff. */
  until?: number;
  restarts: number;
  startedAt?: number;
  readyAt?: number;
  /** When it ends by itself, and how. */
  endAt?: number;
  end?: { exitCode: number; reason: string };
  terminated?: Loose;
  last?: Loose;
}

/** What the kubelet knows of one pod; kept in the side table `pods` by uid. */
export interface PodRun {
  /** The last problem told, and how often a mount was tried. */
  mountProblem?: string;
  mountTries?: number;
  mounted: boolean;
  ip?: string;
  startedAt?: number;
  stopAt?: number;
  unready?: boolean;
  containers: Record<string, ContainerRun>;
}

const TABLE = 'pods';

export function loadRun(world: World, pod: KubeObject): PodRun {
  const stored: PodRun | undefined = world.store.side.get(TABLE, pod.metadata.uid);
  return stored === undefined ? { mounted: false, containers: {} } : copyJson(stored);
}

export function saveRun(world: World, pod: KubeObject, run: PodRun): void {
  const before = world.store.side.get(TABLE, pod.metadata.uid);
  if (!sameJson(before, run)) world.store.side.set(TABLE, pod.metadata.uid, run);
}

/** Forgets all the side tables know of a pod that is gone. */
export function forgetRun(world: World, uid: string): void {
  world.store.side.delete(TABLE, uid);
  world.store.side.drop(`log:${uid}`);
  for (const key of world.store.side.keys(`trees:${uid}`)) world.store.side.drop(`files:${key}`);
  world.store.side.drop(`trees:${uid}`);
}

export interface LogLine {
  at: number;
  text: string;
}

/** Adds lines to a container's log. */
export function appendLog(world: World, uid: string, container: string, text: string): void {
  for (const line of text.replace(/\n$/, '').split('\n')) {
    world.store.side.append(`log:${uid}`, container, { at: world.store.now, text: line } satisfies LogLine);
  }
}

export function readLog(world: World, uid: string, container: string): readonly LogLine[] {
  return world.store.side.get(`log:${uid}`, container) ?? [];
}
