/** The check whether a node is gone: positive proof only. */
import { describe, expect, it } from 'vitest';
import type { Subject } from './subject.ts';

export function nodesConform(subject: () => Subject): void {
  describe('whether a node is gone', () => {
    it('is answered by the API server alone: it is there, or there is none of that name', async () => {
      const { client } = subject();
      expect(await subject().nodeGone(client, 'h100-1')).toBe(false);
      expect(await subject().nodeGone(client, 'never-was')).toBe(true);
    });

    it('is not known while the server refuses, or does not answer', async () => {
      const { client, proxy } = await subject().faulty({ requestTimeoutMs: 300 });
      for (const status of [403, 429, 500, 503]) {
        const message = 'nodes "never-was" is forbidden: User "gpu-dev" cannot get resource "nodes" in API group ""';
        proxy.fault({ verb: 'GET', path: /\/nodes\//, times: 1 }, { status, message });
        await expect(subject().nodeGone(client, 'never-was')).rejects.toMatchObject({ status });
      }
      // A gateway's 404 says nothing of nodes.
      proxy.fault({ verb: 'GET', path: /\/nodes\//, times: 1 }, { status: 404, reason: 'PageNotFound' });
      await expect(subject().nodeGone(client, 'never-was')).rejects.toThrow();
      proxy.fault({ verb: 'GET', path: /\/nodes\//, times: 1 }, { silent: true });
      await expect(subject().nodeGone(client, 'never-was')).rejects.toThrow(/no answer/);
      await proxy.refuse();
      await expect(subject().nodeGone(client, 'never-was')).rejects.toThrow(/no answer/);
      await proxy.mend();
      expect(await subject().nodeGone(client, 'never-was')).toBe(true);
    });
  });
}
