import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { statusObject } from './errors.ts';
import { createRandom, type Random, seedState } from './random.ts';
import type { Loose } from './types.ts';

const match = {
  /** GET, POST, PUT, PATCH, DELETE or WATCH; left out: all. */
  verb: z.enum(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'WATCH']).optional(),
  /** A regular expression over path and query; left out: all. */
  path: z.string().optional(),
  /** How often it strikes, from 0 to 1. */
  rate: z.number().min(0).max(1).default(1),
  /** How many times it strikes before it is spent; left out: for ever. */
  count: z.number().int().positive().optional(),
};

export const faultSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('error'),
    status: z.number().int().min(400).max(599),
    reason: z.string().default('InternalError'),
    message: z.string().default('injected fault'),
    retryAfterSeconds: z.number().optional(),
    ...match,
  }),
  z.object({ kind: z.literal('latency'), ms: z.number().min(0), ...match }),
  /** Keeps the request waiting until the faults are cleared, and does it then. */
  z.object({ kind: z.literal('hold'), ...match }),
  /** Breaks the connection before the request is done, or after it was done but before its answer. */
  z.object({ kind: z.literal('drop'), when: z.enum(['before', 'after']).default('before'), ...match }),
]);

export type Fault = z.infer<typeof faultSchema> & { id: number };

export interface Outcome {
  drop?: 'before' | 'after';
  status?: Loose;
  retryAfterSeconds?: number;
}

/** Faults that requests run into, tried in the order they were added. */
export class Faults {
  private readonly faults: Fault[] = [];
  private readonly random: Random;
  private nextId = 1;
  private readonly held: (() => void)[] = [];

  constructor(seed: number) {
    this.random = createRandom(seedState(seed ^ 0x5f), true);
  }

  add(input: unknown): Fault {
    const fault = { ...faultSchema.parse(input), id: this.nextId++ };
    this.faults.push(fault);
    return fault;
  }

  /** How many requests are held. */
  get waiting(): number {
    return this.held.length;
  }

  list(): readonly Fault[] {
    return this.faults;
  }

  /** No faults from now on; what they hold goes on. */
  clear(): void {
    this.faults.length = 0;
    for (const release of this.held.splice(0)) release();
  }

  /** What this request meets; waits out latencies and holds itself. Undefined when it meets nothing. */
  async meet(verb: string, path: string): Promise<Outcome | undefined> {
    let outcome: Outcome | undefined;
    for (const fault of [...this.faults]) {
      if (fault.verb !== undefined && fault.verb !== verb) continue;
      if (fault.path !== undefined && !new RegExp(fault.path).test(path)) continue;
      if (fault.rate < 1 && this.random.next() >= fault.rate) continue;
      this.spend(fault);
      if (fault.kind === 'latency') {
        await sleep(fault.ms);
        continue;
      }
      if (fault.kind === 'hold') {
        await new Promise<void>((resolve) => this.held.push(resolve));
        continue;
      }
      if (fault.kind === 'drop') outcome = { drop: fault.when };
      else {
        outcome = {
          status: statusObject(fault.status, fault.reason, fault.message),
          ...(fault.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: fault.retryAfterSeconds }),
        };
      }
      break;
    }
    return outcome;
  }

  private spend(fault: Fault): void {
    if (fault.count === undefined) return;
    fault.count -= 1;
    if (fault.count > 0) return;
    const index = this.faults.indexOf(fault);
    if (index >= 0) this.faults.splice(index, 1);
  }
}
