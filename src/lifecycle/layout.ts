/**
 * Where everything of a chart lies. Laying out takes the time of many requests, so a thread of its own does it, once for each version of a
 * machine, and ends when nothing is left to do for a while.
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

/** A thread that has nothing to do ends after this, in milliseconds. */
const IDLE_MS = 5_000;

interface Job {
  chart: Chart;
  resolve: (placed: PlacedChart) => void;
  reject: (error: Error) => void;
}

/** The thread, and what it is asked for, one after another. */
class Thread {
  readonly #jobs: Job[] = [];
  #worker: Worker | null = null;
  #idle: NodeJS.Timeout | null = null;

  ask(chart: Chart): Promise<PlacedChart> {
    return new Promise((resolve, reject) => {
      this.#jobs.push({ chart, resolve, reject });
      if (this.#jobs.length === 1) this.#next();
    });
  }

  #next(): void {
    if (this.#idle !== null) clearTimeout(this.#idle);
    this.#idle = null;
    const [job] = this.#jobs;
    if (job === undefined) {
      this.#worker?.unref();
      this.#idle = setTimeout(() => this.#end(), IDLE_MS).unref();
      return;
    }
    this.#worker ??= this.#start();
    this.#worker.ref();
    this.#worker.postMessage(job.chart);
  }

  #start(): Worker {
    const worker = new Worker(new URL('./layout-worker.ts', import.meta.url));
    worker.on('message', ({ placed, problem }: { placed?: PlacedChart; problem?: string }) => {
      const job = this.#jobs.shift();
      if (placed === undefined) job?.reject(new Error(`The layout of ${job.chart.machine} failed: ${problem}`));
      else job?.resolve(placed);
      this.#next();
    });
    worker.on('error', (error) => this.#fail(worker, error as Error));
    worker.on('exit', (code) => this.#fail(worker, new Error(`The thread for layouts ended with ${code}`)));
    return worker;
  }

  /** Whoever asked is told; the next one gets a new thread. */
  #fail(worker: Worker, error: Error): void {
    if (this.#worker !== worker) return;
    this.#worker = null;
    this.#jobs.shift()?.reject(error);
    this.#next();
  }

  #end(): void {
    const worker = this.#worker;
    this.#worker = null;
    void worker?.terminate();
  }
}

const thread = new Thread();

/** Lay a chart out, beside all else that the process does. @throws Error if the layout fails */
export const layOut: Layout = (chart) => thread.ask(chart);

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
