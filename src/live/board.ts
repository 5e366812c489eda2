/**
 * The board: each GPU type with its nodes, who holds which slot until when, and its line. Everybody may see who is there; which reservation it
 * is is told to admins only.
 */
import { type QueuePlace, queueView } from '../../actors/gpu-pool/line-view.ts';
import {
  type BoardHold,
  type BoardMaintenance,
  type BoardNode,
  type BoardWaiting,
  boardHolds,
  boardMaintenance,
  boardNodes,
  boardWaiting,
} from '../../persistence/board.ts';
import type { Queryable } from '../../persistence/database.ts';
import { listAvailability } from '../../persistence/reservations.ts';

export interface HoldView {
  slots: number[];
  user: string | null;
  name: string | null;
  state: string | null;
  since: string;
  /** When its time ends, or would end if it began to run now. */
  until: string | null;
  /** True if `until` is not fixed yet. */
  planned: boolean;
  id?: string;
}
export interface NodeView {
  node: string;
  gpu_type: string;
  slots: number;
  foreign: number;
  /** free, draining, unhealthy: what an operator would say of it. */
  health: 'ok' | 'draining' | 'unhealthy';
  reason: string | null;
  holds: HoldView[];
}
export interface WaitingView {
  gpu_type: string;
  position: number;
  user: string;
  name: string | null;
  slots: number;
  hours: number;
  since: string;
  estimated_start: string | null;
  waits_because: string | null;
  id?: string;
}
export interface TypeView {
  gpu_type: string;
  description: string | null;
  total: number;
  free: number;
  in_use: number;
  queued: number;
  largest_fit: number;
  paused_because: string | null;
  maintenance: { reason: string; from: string; until: string | null } | null;
}
export interface BoardFrame {
  types: TypeView[];
  nodes: NodeView[];
  waiting: WaitingView[];
}
export interface BoardPatch {
  types?: TypeView[];
  nodes: NodeView[];
  gone: string[];
  waiting?: WaitingView[];
}

/** Of each line so many are shown. */
const SHOWN = 100;
/** Estimates cost most: how long they hold, in milliseconds. */
const ESTIMATES_MS = 3_000;
const HOUR = 3_600_000;

export class Board {
  readonly #db: Queryable;
  readonly #timeScale: number;
  readonly #estimates = new Map<string, { at: number; places: ReadonlyMap<string, QueuePlace> }>();

  constructor(db: Queryable, timeScale: number) {
    this.#db = db;
    this.#timeScale = timeScale;
  }

  /** @param withIds true for admins */
  async read(withIds: boolean): Promise<BoardFrame> {
    const [types, nodes, holds, waiting, maintenance] = await Promise.all([
      listAvailability(this.#db),
      boardNodes(this.#db),
      boardHolds(this.#db),
      boardWaiting(this.#db, SHOWN),
      boardMaintenance(this.#db),
    ]);
    const byType = new Map(maintenance.map((row) => [row.gpu_type, row]));
    return {
      types: types.map(({ gpu_type, description, total, free, in_use, queued, largest_fit, paused_because }) => ({
        ...{ gpu_type, description, total, free, in_use, queued, largest_fit, paused_because },
        maintenance: maintenanceView(byType.get(gpu_type)),
      })),
      nodes: this.#nodeViews(nodes, holds, withIds),
      waiting: await this.#waitingViews(waiting, withIds),
    };
  }

  #nodeViews(nodes: readonly BoardNode[], holds: readonly BoardHold[], withIds: boolean): NodeView[] {
    const byNode = Map.groupBy(holds, ({ node }) => node);
    const known = nodes.map(
      (row): NodeView => ({
        node: row.node,
        gpu_type: row.gpu_type,
        slots: row.slots,
        foreign: row.foreign_slots,
        health: !row.ready ? 'unhealthy' : row.drained !== null || !row.schedulable ? 'draining' : 'ok',
        reason: row.drained ?? row.reason,
        holds: (byNode.get(row.node) ?? []).map((hold) => this.#holdView(hold, withIds)),
      }),
    );
    const names = new Set(nodes.map(({ node }) => node));
    const lost = [...byNode].filter(([node]) => !names.has(node));
    return [
      ...known,
      ...lost.map(
        ([node, own]): NodeView => ({
          node,
          gpu_type: own[0]!.gpu_type,
          slots: 0,
          foreign: 0,
          health: 'unhealthy',
          reason: 'The node is not known any more, and yet somebody holds slots on it',
          holds: own.map((hold) => this.#holdView(hold, withIds)),
        }),
      ),
    ];
  }

  #holdView(hold: BoardHold, withIds: boolean): HoldView {
    const { slots, user_id: user, name, state, since, expires_at: expires, total_hours: hours } = hold;
    const planned = hours === null ? null : new Date(since.getTime() + (hours * HOUR) / this.#timeScale);
    return {
      ...{ slots, user, name, state },
      since: since.toISOString(),
      until: (expires ?? planned)?.toISOString() ?? null,
      planned: expires === null,
      ...(withIds ? { id: hold.id } : {}),
    };
  }

  async #waitingViews(rows: readonly BoardWaiting[], withIds: boolean): Promise<WaitingView[]> {
    const lines = Map.groupBy(rows, ({ gpu_type }) => gpu_type);
    const views: WaitingView[] = [];
    for (const [gpuType, line] of lines) {
      const places = await this.#placesOf(gpuType);
      for (const [index, row] of line.entries()) {
        const place = places.get(row.id);
        views.push({
          gpu_type: gpuType,
          position: index + 1,
          user: row.user_id,
          name: row.name,
          slots: row.slots,
          hours: row.hours,
          since: row.since.toISOString(),
          estimated_start: place?.estimatedStart ?? null,
          waits_because: place?.reason ?? null,
          ...(withIds ? { id: row.id } : {}),
        });
      }
    }
    return views;
  }

  async #placesOf(gpuType: string): Promise<ReadonlyMap<string, QueuePlace>> {
    const known = this.#estimates.get(gpuType);
    if (known !== undefined && Date.now() - known.at < ESTIMATES_MS) return known.places;
    const places = await queueView(this.#db, gpuType, this.#timeScale, SHOWN);
    this.#estimates.set(gpuType, { at: Date.now(), places });
    return places;
  }
}

function maintenanceView(row: BoardMaintenance | undefined): TypeView['maintenance'] {
  if (row === undefined) return null;
  return { reason: row.reason, from: row.from_at.toISOString(), until: row.until_at?.toISOString() ?? null };
}

/** What changed from one board to the next; null if nothing did. */
export function boardPatch(before: BoardFrame, after: BoardFrame): BoardPatch | null {
  const known = new Map(before.nodes.map((node) => [node.node, JSON.stringify(node)]));
  const nodes = after.nodes.filter((node) => known.get(node.node) !== JSON.stringify(node));
  const present = new Set(after.nodes.map(({ node }) => node));
  const gone = [...known.keys()].filter((node) => !present.has(node));
  const types = differs(before.types, after.types);
  const waiting = differs(before.waiting, after.waiting);
  if (nodes.length === 0 && gone.length === 0 && !types && !waiting) return null;
  return { nodes, gone, ...(types ? { types: after.types } : {}), ...(waiting ? { waiting: after.waiting } : {}) };
}

function differs(before: unknown, after: unknown): boolean {
  return JSON.stringify(before) !== JSON.stringify(after);
}
