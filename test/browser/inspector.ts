// The bridge to the inspector, against the receiving half of Stately's own library. Part of page.test.ts, whose scene it shares.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { createInspector } from '@statelyai/inspect';
import { build } from 'vite';
import { expect, it } from 'vitest';
import { createActor } from 'xstate';
import { reservationMachine } from '../../machines/reservation.machine.ts';
import type { Scene } from './support/scene.ts';

interface Told {
  type: string;
  definition?: string;
  event?: { type: string };
  snapshot?: { value: unknown; status: string };
}

const STAND_IN = fileURLToPath(new URL('./support/inspector-stand-in.ts', import.meta.url));

/** A page with the library's receiver, which says that it listens and keeps what it is told. */
export async function startStandIn(): Promise<{ url: string; server: Server }> {
  const built = await build({
    configFile: false,
    logLevel: 'silent',
    build: { write: false, rolldownOptions: { input: STAND_IN } },
  });
  const { output } = (Array.isArray(built) ? built[0] : built) as { output: { type: string; code?: string }[] };
  const script = output.find(({ type }) => type === 'chunk')!.code!;
  const server = createServer((request, response) => {
    const isScript = request.url === '/script.js';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? script : '<!doctype html><script type="module" src="/script.js"></script>');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/inspect`, server };
}

/** What the library itself tells of a live actor of the same machine. */
async function toldByLibrary(): Promise<Told[]> {
  const told: Told[] = [];
  const inspector = createInspector({ send: (event) => void told.push(JSON.parse(JSON.stringify(event)) as Told) });
  createActor(reservationMachine, { inspect: inspector.inspect } as never).start();
  await expect.poll(() => told.map(({ type }) => type)).toContain('@xstate.snapshot');
  return told;
}

export function inspectorTests(sceneOf: () => Scene): void {
  it('tells the inspector the history of a reservation and what comes, in its own words, without secrets', async () => {
    const { http, open } = sceneOf();
    const wishes = { gpu_type: 't4', gpu_count: 1, duration_hours: 4, no_persistent_disk: true, env_vars: { TOKEN: 'canary-2' } };
    const { id } = (await http.post('/v1/reservations', wishes, { user: 'ida' })).body;
    await http.world.reaches(id, 'running');
    const { page, close } = await open(`/reservation/${id}`);
    await page.getByRole('link', { name: 'Show it in Stately’s inspector' }).click();
    await page.frameLocator('iframe[title="Inspector"]').locator('script').waitFor({ state: 'attached' });
    const told = () =>
      page.frames()[1]!.evaluate(() => (globalThis as unknown as { told?: unknown[] }).told ?? []) as Promise<Told[]>;
    await http.world.until('the history is told', async () => (await told()).some(({ event }) => event?.type === 'pod.ready'));
    const [first, ...rest] = await told();
    const common = { sessionId: `reservation/${id}`, rootId: `reservation/${id}`, _version: '0.7.2', id: null };
    expect(first).toMatchObject({ ...common, type: '@xstate.actor' });
    expect(JSON.parse(first!.definition!)).toEqual((await http.get('/v1/machines/reservation')).body);
    const [event, snapshot] = ['@xstate.event', '@xstate.snapshot'];
    expect(rest.map(({ type }) => type).slice(0, 4)).toEqual([event, snapshot, event, snapshot]);
    expect(rest.at(-1)!.snapshot).toMatchObject({ status: 'active', value: { running: 'serving' } });
    for (const theirs of await toldByLibrary()) {
      const ours = [first!, ...rest].find(({ type }) => type === theirs.type)!;
      expect(Object.keys(ours), theirs.type).toEqual(expect.arrayContaining(Object.keys(theirs)));
      expect(Object.keys(ours.snapshot ?? {}), theirs.type).toEqual(expect.arrayContaining(Object.keys(theirs.snapshot ?? {})));
    }
    await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: 'ida' });
    await http.world.until('its end is told', async () => (await told()).at(-1)?.snapshot?.value === 'cancelled');
    expect(JSON.stringify(await told())).not.toContain('canary-2');
    await page.getByText('It has ended.').waitFor();
    await close();
    expect((await http.get(`/v1/reservations/${id}/inspect`, 'ida')).body.code).toBe('GPU_SCOPE_MISSING');
  });
}
