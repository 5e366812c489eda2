import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Catalogue, countsOf, readCatalogue, shareOf, slotsOf } from '../../actors/intake/catalogue.ts';
import { sharesOf } from '../../actors/reservation/shares.ts';
import { POD_DEFAULTS, podOf } from '../../src/providers/kubernetes/pod-spec.ts';
import { serverSpec } from '../integration/providers/support/specs.ts';
import type { Queryable } from '../../persistence/database.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

const GIB = 2 ** 30;

/** Every type and count: CPUs requested and at most, GiB requested and at most, network cards. */
const TABLE: [string, number, number, number, number, number, number][] = [
  ['t4', 1, 10, 18, 43, 48, 0],
  ['t4', 2, 21, 36, 86, 96, 0],
  ['t4', 4, 43, 48, 172, 192, 0],
  ['t4-small', 1, 7, 8, 28, 32, 0],
  ['l4', 1, 10, 18, 43, 48, 0],
  ['l4', 2, 21, 36, 86, 96, 0],
  ['l4', 4, 43, 48, 172, 192, 1],
  ['a10g', 1, 10, 18, 43, 48, 0],
  ['a10g', 2, 21, 36, 86, 96, 0],
  ['a10g', 4, 43, 48, 172, 192, 1],
  ['g5g', 1, 3, 6, 14, 16, 0],
  ['g5g', 2, 7, 8, 28, 32, 0],
  ['rtxpro6000', 1, 21, 36, 230, 256, 0],
  ['rtxpro6000', 2, 43, 72, 460, 512, 0],
  ['rtxpro6000', 4, 86, 96, 921, 1024, 2],
  ['a100', 1, 10, 18, 129, 144, 0],
  ['a100', 2, 21, 36, 259, 288, 0],
  ['a100', 4, 43, 72, 518, 576, 0],
  ['a100', 8, 86, 96, 1036, 1152, 4],
  ['h100', 1, 21, 36, 230, 256, 0],
  ['h100', 2, 43, 72, 460, 512, 0],
  ['h100', 4, 86, 144, 921, 1024, 0],
  ['h100', 8, 172, 192, 1843, 2048, 32],
  ['h200', 1, 21, 36, 230, 256, 0],
  ['h200', 2, 43, 72, 460, 512, 0],
  ['h200', 4, 86, 144, 921, 1024, 0],
  ['h200', 8, 172, 192, 1843, 2048, 32],
  ['b200', 1, 21, 36, 230, 256, 0],
  ['b200', 2, 43, 72, 460, 512, 0],
  ['b200', 4, 86, 144, 921, 1024, 0],
  ['b200', 8, 172, 192, 1843, 2048, 8],
  ['b300', 1, 21, 36, 230, 256, 0],
  ['b300', 2, 43, 72, 460, 512, 0],
  ['b300', 4, 86, 144, 921, 1024, 0],
  ['b300', 8, 172, 192, 1843, 2048, 8],
  ['h100-mig-1g', 1, 3, 3, 36, 36, 0],
  ['h100-mig-1g', 2, 6, 6, 73, 73, 0],
  ['h100-mig-1g', 4, 13, 13, 146, 146, 0],
  ['h100-mig-1g', 8, 27, 27, 292, 292, 0],
  ['h100-mig-1g', 16, 54, 54, 585, 585, 0],
  ['h100-mig-2g', 1, 6, 6, 73, 73, 0],
  ['h100-mig-2g', 2, 13, 13, 146, 146, 0],
  ['h100-mig-2g', 4, 27, 27, 292, 292, 0],
  ['h100-mig-2g', 8, 54, 54, 585, 585, 0],
  ['h100-mig-3g', 1, 10, 10, 109, 109, 0],
  ['h100-mig-3g', 2, 20, 20, 219, 219, 0],
  ['h100-mig-3g', 4, 41, 41, 438, 438, 0],
  ['h100-mig-3g', 8, 82, 82, 877, 877, 0],
  ['b200-mig-1g', 1, 3, 3, 36, 36, 0],
  ['b200-mig-1g', 2, 6, 6, 73, 73, 0],
  ['b200-mig-1g', 4, 13, 13, 146, 146, 0],
  ['b200-mig-2g', 1, 6, 6, 73, 73, 0],
  ['b200-mig-2g', 2, 13, 13, 146, 146, 0],
  ['b200-mig-3g', 1, 10, 10, 109, 109, 0],
  ['b200-mig-3g', 2, 20, 20, 219, 219, 0],
  ['cpu-x86', 0, 27, 27, 51, 51, 0],
  ['cpu-arm', 0, 27, 27, 51, 51, 0],
  ['cpu-spot', 0, 6, 6, 12, 12, 0],
  ['cpu-small', 0, 6, 6, 12, 12, 0],
  ['cpu-large', 0, 27, 27, 51, 51, 0],
];

let database: TestDatabase;
let catalogue: Catalogue;
beforeAll(async () => {
  database = await createTestDatabase();
  const client = new pg.Client({ ...database.config });
  await client.connect();
  catalogue = await readCatalogue(client as unknown as Queryable);
  await client.end();
});
afterAll(() => database?.drop());

function containerOf(gpuType: string, gpuCount: number) {
  const type = catalogue.get(gpuType)!;
  const slots = slotsOf(type, gpuCount);
  const shares = sharesOf(type, gpuCount, shareOf(type, slots), null);
  return podOf(serverSpec({ gpuType, gpuCount, ...shares }), POD_DEFAULTS).spec!.containers[0]!;
}

describe('the share of a dev server', () => {
  it('is told for every type and count that can be asked for', () => {
    const all = [...catalogue.values()].flatMap((type) => countsOf(type).map((count) => `${type.gpuType} ${count}`));
    expect(TABLE.map(([type, count]) => `${type} ${count}`).sort()).toEqual(all.sort());
  });

  it.for(TABLE)('Q21: of %s × %i is exactly this', ([gpuType, gpuCount, cpu, cpuLimit, memory, memoryLimit, efa]) => {
    const type = catalogue.get(gpuType)!;
    const { requests, limits } = containerOf(gpuType, gpuCount).resources!;
    // Whoever has the whole node has all of its network cards, and the pages that they need; nobody else has any.
    const cards = efa === 0 ? {} : { 'vpc.amazonaws.com/efa': String(efa), 'hugepages-2Mi': '5120Mi' };
    const devices = { ...(type.resourceName === null ? {} : { [type.resourceName]: String(gpuCount) }), ...cards };
    expect(requests).toEqual({ cpu: `${cpu * 1000}m`, memory: String(memory * GIB), ...devices });
    expect(limits).toEqual({ cpu: `${cpuLimit * 1000}m`, memory: String(memoryLimit * GIB), ...devices });
  });

  it('has half of its memory, and 64 GiB at most, at /dev/shm', () => {
    const size = (gpuType: string, count: number) => {
      const type = catalogue.get(gpuType)!;
      return sharesOf(type, count, shareOf(type, slotsOf(type, count)), null).sharedMemoryBytes / GIB;
    };
    expect([size('h100', 1), size('t4', 1), size('t4-small', 1), size('cpu-small', 0)]).toEqual([64, 21.5, 14, 6]);
  });

  it('Q5: all slices of a node together ask for no more than the node has', () => {
    for (const [node, slices] of [
      ['h100', ['h100-mig-1g', 'h100-mig-2g', 'h100-mig-3g']],
      ['b200', ['b200-mig-1g', 'b200-mig-2g', 'b200-mig-3g']],
    ] as const) {
      const sums = slices.map((name) => {
        const type = catalogue.get(name)!;
        const { cpuMillis, memoryBytes } = shareOf(type, 1);
        return { cpu: cpuMillis * type.maxPerNode, memory: memoryBytes * type.maxPerNode };
      });
      const sum = { cpu: 0, memory: 0 };
      for (const each of sums) {
        sum.cpu += each.cpu;
        sum.memory += each.memory;
      }
      if (node === 'b200') {
        // Two GPUs of eight are cut; the other six go by the GPU.
        const { cpuMillis, memoryBytes } = shareOf(catalogue.get('b200')!, 1);
        sum.cpu += 6 * cpuMillis;
        sum.memory += 6 * memoryBytes;
      }
      const { cpus, memoryGb } = catalogue.get(node)!;
      expect(sum.cpu).toBeLessThanOrEqual(cpus * 1000);
      expect(sum.memory).toBeLessThanOrEqual(memoryGb * GIB);
    }
  });

  it('Q22: on a CPU node is what it may use, and leaves the node room to breathe', () => {
    for (const type of catalogue.values()) {
      if (type.resourceName !== null) continue;
      const { requests, limits } = containerOf(type.gpuType, 0).resources!;
      expect(limits).toEqual(requests);
      expect(Number(requests!.memory) * type.maxPerNode).toBeLessThanOrEqual(0.85 * type.memoryGb * GIB);
    }
  });

  it('is never more CPU than the node says it has', () => {
    const h100 = catalogue.get('h100')!;
    expect(sharesOf(h100, 8, shareOf(h100, 8), { cpuMillis: 182_400, memoryBytes: 2048 * GIB }).cpuLimitMillis).toBe(182_400);
  });

  it('is never more memory than its part of what the node has to give, and never less than it asks for', () => {
    for (const type of catalogue.values()) {
      if (type.resourceName === null || type.gpuType.includes('-mig-')) continue;
      for (const part of [0.97, 0.92, 0.5]) {
        const node = { cpuMillis: type.cpus * 1_000, memoryBytes: Math.floor(type.memoryGb * GIB * part) };
        for (const count of countsOf(type)) {
          const slots = slotsOf(type, count);
          const { memoryLimitBytes, memoryRequestBytes } = sharesOf(type, count, shareOf(type, slots), node);
          const all = (type.maxPerNode / slots) * memoryLimitBytes;
          expect(memoryLimitBytes).toBeGreaterThanOrEqual(memoryRequestBytes);
          if (part > 0.9) expect(all, `${type.gpuType} x ${count}`).toBeLessThanOrEqual(node.memoryBytes);
        }
      }
    }
  });
});
