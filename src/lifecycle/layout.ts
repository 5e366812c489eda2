/**
 * Where everything of a chart lies. Laying out takes the time of many requests, so a thread of its own does it, once for each version of a
 * machine, and ends when nothing is left to do.
 */
import { Worker } from 'node:worker_threads';
import type { Chart, ChartEdge, ChartNode } from './graph.ts';

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}
/** A point from the upper left corner of the chart, in pixels. */
export type Point = [x: number, y: number];

/** A state with its place, from the upper left corner of its parent. */
export type PlacedNode = ChartNode & Box;
/** A way between states, with its corners and the box of its label, from the upper left corner of the chart. */
export type PlacedEdge = ChartEdge & { points: Point[]; label: Box; lines: string[] };

export interface PlacedChart extends Omit<Chart, 'nodes' | 'edges'> {
  width: number;
  height: number;
  nodes: PlacedNode[];
  edges: PlacedEdge[];
}

type Layout = (chart: Chart) => Promise<PlacedChart>;

/** Lay a chart out in a thread of its own. @throws what the layout throws. */
export const layOut: Layout = (chart) =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./layout-worker.ts', import.meta.url), { workerData: chart });
    worker.once('message', (placed: PlacedChart) => resolve(placed));
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`The layout of ${chart.machine} ended with ${code} and no result`)));
  });

/** Charts with their places, by machine and version; those who ask while one is being laid out share it. */
export class Layouts {
  readonly #placed = new Map<string, Promise<PlacedChart>>();
  readonly #layOut: Layout;

  constructor(layout: Layout = layOut) {
    this.#layOut = layout;
  }

  placed(chart: Chart): Promise<PlacedChart> {
    const key = `${chart.machine}@${chart.version}`;
    const known = this.#placed.get(key);
    if (known !== undefined) return known;
    const placed = this.#layOut(chart);
    this.#placed.set(key, placed);
    // A layout that failed is tried again.
    placed.catch(() => this.#placed.delete(key));
    return placed;
  }
}
