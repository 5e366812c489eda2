/** Runs seeds one after the other and tells what came of each hundred. */
import { parentPort, workerData } from 'node:worker_threads';
import { runSeeds } from './seeds.ts';

interface Order {
  from: number;
  step: number;
  seeds: number;
  untilMs: number;
}

const order = workerData as Order;
await runSeeds(order, (report) => parentPort!.postMessage(report));
