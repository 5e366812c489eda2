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
  boardMarks,
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
/** Estimates cost most: how long they hold at least, in milliseconds, and that they take no more than one part in so many of the time. */
const ESTIMATES_MS = 3_000;
const ESTIMATES_SHARE = 100;
/** A reading of the nodes serves all who ask within this time. */
const SHARED_MS = 400;
/** Then all of them are read once more: whoever edits rows by hand leaves no step behind. */
const WHOLE_MS = 60_000;
const HOUR = 3_600_000;

interface Known {
  plain: NodeView;
  /** With the ids of reservations. */
  full: NodeView;
  mark: string;
}

/** What is known of the nodes is kept, and only nodes on which something happened are read anew. */
export class Board {
  readonly #db: Queryable;
  readonly #timeScale: number;
  readonly #estimates = new Map<string, { until: number; places: ReadonlyMap<string, QueuePlace> }>();
  #nodes: ReadonlyMap<string, Known> = new Map();
  #position: string | null = null;
  #readAt = 0;
  #wholeAt = 0;
  #reading: Promise<void> | null = null;

  constructor(db: Queryable, timeScale: number) {
    this.#db = db;
    this.#timeScale = timeScale;
  }

  /** Views of nodes that have not changed are the same objects as the last time. @param withIds true for admins */
  async read(withIds: boolean): Promise<BoardFrame> {
    const [types, waiting, maintenance] = await Promise.all([
      listAvailability(this.#db),
      boardWaiting(this.#db, SHOWN),
      boardMaintenance(this.#db),
      this.#refresh(),
    ]);
    const byType = new Map(maintenance.map((row) => [row.gpu_type, row]));
    return {
      types: types.map(({ gpu_type, description, total, free, in_use, queued, largest_fit, paused_because }) => ({
        ...{ gpu_type, description, total, free, in_use, queued, largest_fit, paused_because },
        maintenance: maintenanceView(byType.get(gpu_type)),
      })),
      nodes: [...this.#nodes.values()].map(({ plain, full }) => (withIds ? full : plain)),
      waiting: await this.#waitingViews(waiting, withIds),
    };
  }

  /** @throws what the database throws; what is known stays as it was then */
  async #refresh(): Promise<void> {
    if (this.#reading === null && Date.now() - this.#readAt < SHARED_MS) return;
    this.#reading ??= this.#readNodes().finally(() => {
      this.#reading = null;
    });
    await this.#reading;
  }

  async #readNodes(): Promise<void> {
    const begun = Date.now();
    const whole = this.#position === null || begun - this.#wholeAt >= WHOLE_MS;
    const { position, marks, moved } = await boardMarks(this.#db, whole ? null : this.#position);
    const old = this.#nodes;
    const changed = new Set([
      ...moved,
      ...[...marks].filter(([node, mark]) => old.get(node)?.mark !== mark).map(([node]) => node),
    ]);
    const of = whole ? null : [...changed];
    const [nodes, holds] = of?.length === 0 ? [[], []] : await Promise.all([boardNodes(this.#db, of), boardHolds(this.#db, of)]);
    const views = this.#nodeViews(nodes, holds);
    const known = [...marks].flatMap(([node, mark]): [string, Known][] => {
      const before = old.get(node);
      if (!whole && !changed.has(node)) return [[node, before!]];
      // One that went since its mark was read goes with the next reading.
      const full = views.get(node);
      if (full === undefined) return before === undefined ? [] : [[node, { ...before, mark: '' }]];
      const same = before !== undefined && JSON.stringify(before.full) === JSON.stringify(full);
      return [[node, same ? { ...before, mark } : { full, plain: withoutIds(full), mark }]];
    });
    this.#nodes = new Map(known.sort(([, { full: a }], [, { full: b }]) => byType(a, b)));
    this.#position = position;
    this.#readAt = Date.now();
    if (whole) this.#wholeAt = begun;
  }

  #nodeViews(nodes: readonly BoardNode[], holds: readonly BoardHold[]): ReadonlyMap<string, NodeView> {
    const byNode = Map.groupBy(holds, ({ node }) => node);
    const known = nodes.map(
      (row): NodeView => ({
        node: row.node,
        gpu_type: row.gpu_type,
        slots: row.slots,
        foreign: row.foreign_slots,
        health: !row.ready ? 'unhealthy' : row.drained !== null || !row.schedulable ? 'draining' : 'ok',
        reason: row.drained ?? row.reason,
        holds: (byNode.get(row.node) ?? []).map((hold) => this.#holdView(hold)),
      }),
    );
    const names = new Set(nodes.map(({ node }) => node));
    const lost = [...byNode]
      .filter(([node]) => !names.has(node))
      .map(
        ([node, own]): NodeView => ({
          node,
          gpu_type: own[0]!.gpu_type,
          slots: 0,
          foreign: 0,
          health: 'unhealthy',
          reason: 'The node is not known any more, and yet somebody holds slots on it',
          holds: own.map((hold) => this.#holdView(hold)),
        }),
      );
    return new Map([...known, ...lost].map((view) => [view.node, view]));
  }

  #holdView(hold: BoardHold): HoldView {
    const { slots, user_id: user, name, state, since, expires_at: expires, total_hours: hours } = hold;
    const planned = hours === null ? null : new Date(since.getTime() + (hours * HOUR) / this.#timeScale);
    return {
      ...{ slots, user, name, state },
      since: since.toISOString(),
      until: (expires ?? planned)?.toISOString() ?? null,
      planned: expires === null,
      id: hold.id,
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
    const begun = Date.now();
    if (known !== undefined && begun < known.until) return known.places;
    const places = await queueView(this.#db, gpuType, this.#timeScale, SHOWN);
    const took = Date.now() - begun;
    this.#estimates.set(gpuType, { until: begun + Math.max(ESTIMATES_MS, ESTIMATES_SHARE * took), places });
    return places;
  }
}

function withoutIds(node: NodeView): NodeView {
  return { ...node, holds: node.holds.map(({ id: _, ...hold }) => hold) };
}

function byType(a: NodeView, b: NodeView): number {
  if (a.gpu_type !== b.gpu_type) return a.gpu_type < b.gpu_type ? -1 : 1;
  return a.node < b.node ? -1 : 1;
}

function maintenanceView(row: BoardMaintenance | undefined): TypeView['maintenance'] {
  if (row === undefined) return null;
  return { reason: row.reason, from: row.from_at.toISOString(), until: row.until_at?.toISOString() ?? null };
}

/** What changed from one board to the next; undefined if nothing did. */
export function boardPatch(before: BoardFrame, after: BoardFrame): BoardPatch | undefined {
  const known = new Map(before.nodes.map((node) => [node.node, node]));
  const nodes = after.nodes.filter((node) => known.get(node.node) !== node);
  for (const { node } of after.nodes) known.delete(node);
  const gone = [...known.keys()];
  const types = differs(before.types, after.types);
  const waiting = differs(before.waiting, after.waiting);
  if (nodes.length === 0 && gone.length === 0 && !types && !waiting) return undefined;
  return { nodes, gone, ...(types ? { types: after.types } : {}), ...(waiting ? { waiting: after.waiting } : {}) };
}

function differs(before: unknown, after: unknown): boolean {
  return JSON.stringify(before) !== JSON.stringify(after);
}
