import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runInside } from '../../../src/providers/kubernetes/exec.ts';
import { close, diskOf, open } from '../disks/session.ts';
import { type HttpWorld, type Json, startHttp } from './support.ts';

describe.each([
  ['snapshots of the cluster', true],
  ['copies, where the cluster takes none', false],
])('a disk that is set back, by %s,', (_how, volumeSnapshots) => {
  let http: HttpWorld;
  beforeAll(async () => {
    http = await startHttp({ fleet: { t4: 1 }, volumeSnapshots, timeScale: 20 });
  });
  afterAll(async () => {
    await http?.stop();
  });

  /** A session on the disk with one command in its server, and what happens before its end. @returns what the command said */
  async function session(command: string, before = async () => {}): Promise<string> {
    const row = await open(http.world, 'papers');
    expect(row).toMatchObject({ status: 'running', failure_reason: null });
    const { stdout } = await runInside(http.world.client, row['pod_name'] as string, ['sh', '-c', command]);
    await before();
    await close(http.world, row);
    return stdout;
  }
  async function restore(snapshotId: string): Promise<Json> {
    const { status, body } = await http.post('/v1/disks/papers/restore', { snapshot_id: snapshotId }, { user: 'ann' });
    expect(status).toBe(202);
    return http.world.until('it is set back', async () => {
      const { body: operation } = await http.get(`/v1/disks/papers/operations/${body.operation_id}`, 'ann');
      return operation.status === 'pending' ? null : operation;
    });
  }
  const snapshots = async (): Promise<Json[]> => (await http.get('/v1/disks/papers/snapshots', 'ann')).body.snapshots;

  it('has the data of that time again, and what no snapshot had is saved first and can be had back', async () => {
    await session('printf one > /home/dev/notes');
    const [first] = await snapshots();
    // The storage refuses a snapshot: the newest data are on the volume alone.
    const path = volumeSnapshots ? 'volumesnapshots' : 'batch/v1/.*jobs';
    await session('printf two > /home/dev/notes', async () => {
      await http.world.simulate('/faults', { kind: 'error', status: 422, reason: 'Invalid', path });
    });
    await http.world.clearFaults();
    expect(await diskOf(http.world, 'papers')).toMatchObject({ latest_snapshot_id: first.snapshot_id, state: 'idle' });

    expect(await restore(first.snapshot_id)).toMatchObject({ status: 'completed', error: null });
    const saved = (await snapshots()).find(({ status, snapshot_id: id }) => status === 'complete' && id !== first.snapshot_id);
    expect(saved).toBeDefined();
    expect(await session('cat /home/dev/notes && printf three > /home/dev/notes')).toBe('one');

    expect(await restore(saved.snapshot_id)).toMatchObject({ status: 'completed' });
    expect(await session('cat /home/dev/notes')).toBe('two');
  });
});
