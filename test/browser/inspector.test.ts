import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startHttp } from '../integration/http/support.ts';
import { startBrowser } from '../support/chromium.ts';
import { type Scene, startScene } from './support/scene.ts';

const { missing, browser } = await startBrowser();

/** What stands in for Stately's page: it says that it listens, and keeps what it is told. */
const STAND_IN = `<!doctype html><script>
  window.told = [];
  addEventListener('message', ({ data }) => told.push(data));
  parent.postMessage({ type: '@statelyai.connected' }, '*');
</script>`;

describe.skipIf(missing !== '')('the bridge to the inspector', () => {
  let scene: Scene;
  let standIn: Server;
  beforeAll(async () => {
    standIn = createServer((_request, response) => response.setHeader('content-type', 'text/html').end(STAND_IN));
    await new Promise<void>((resolve) => standIn.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(standIn.address() as AddressInfo).port}/inspect`;
    scene = await startScene(browser, { fleet: { t4: 1 } }, { inspector: { url } });
  });
  afterAll(async () => {
    await scene?.stop();
    standIn?.close();
  });

  it('tells the history of a reservation and what comes, in the words of the inspector, without secrets', async () => {
    const { http } = scene;
    const wishes = { gpu_type: 't4', duration_hours: 4, no_persistent_disk: true, env_vars: { TOKEN: 'canary-2' } };
    const { id } = (await http.post('/v1/reservations', wishes, { user: 'ada' })).body;
    await http.world.reaches(id, 'running');
    const { page, close } = await scene.open(`/reservation/${id}`);
    await page.getByRole('link', { name: 'Show it in Stately’s inspector' }).click();
    const frame = page.frameLocator('iframe[title="Inspector"]');
    await frame.locator('script').waitFor({ state: 'attached' });
    type Told = { type: string; definition?: string; event?: { type: string }; snapshot?: { value: unknown; status: string } };
    const told = () => page.frames()[1]!.evaluate(() => (globalThis as unknown as { told: unknown[] }).told) as Promise<Told[]>;
    await http.world.until('the history is told', async () => (await told()).some(({ event }) => event?.type === 'pod.ready'));
    const [first, ...rest] = await told();
    expect(first).toMatchObject({
      type: '@xstate.actor',
      sessionId: `reservation/${id}`,
      rootId: `reservation/${id}`,
      _version: '0.7.2',
    });
    expect(JSON.parse(first!.definition!)).toEqual((await http.get('/v1/machines/reservation')).body);
    expect(rest.map(({ type }) => type).slice(0, 4)).toEqual([
      '@xstate.event',
      '@xstate.snapshot',
      '@xstate.event',
      '@xstate.snapshot',
    ]);
    expect(rest.at(-1)!.snapshot).toMatchObject({ status: 'active', value: { running: 'serving' } });
    await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: 'ada' });
    await http.world.until('its end is told', async () => (await told()).at(-1)?.snapshot?.value === 'cancelled');
    expect(JSON.stringify(await told())).not.toContain('canary-2');
    await page.getByText('It has ended.').waitFor();
    await close();
  });

  it('is there for admins only, and nowhere unless it is switched on', async () => {
    const { id } = (await scene.http.get('/v1/reservations?user=ada')).body.reservations[0];
    expect((await scene.http.get(`/v1/reservations/${id}/inspect`, 'ada')).body.code).toBe('GPU_SCOPE_MISSING');
    const plain = await startHttp();
    expect((await plain.get(`/v1/reservations/${id}/inspect`)).body.code).toBe('GPU_NOT_FOUND');
    expect((await plain.get('/ui/inspect.html', null)).status).toBe(404);
    expect((await plain.get('/')).body.links.inspector).toBeUndefined();
    await plain.stop();
  });
});
