import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildPage } from '../../src/supervisor/page.ts';
import { freePort } from '../../persistence/embedded/ports.ts';
import { Scene, SERVICE } from '../crash/support/scene.ts';
import { startBrowser } from '../support/chromium.ts';

const { missing, browser } = await startBrowser();

describe.skipIf(missing !== '')('a page that is open while its service dies', () => {
  let scene: Scene;
  beforeAll(async () => {
    const build = await buildPage();
    expect(build.how).not.toBe('failed');
    scene = await Scene.start();
  });
  afterAll(async () => {
    await scene?.stop();
  });

  it('says that what it shows may be old, comes back by itself, and has missed nothing', async () => {
    const PORT = String(await freePort());
    const environment = { PORT, GPU_DEV_LOCAL: 'true', GPU_DEV_ADMINS: 'ada' };
    const first = scene.program(SERVICE, environment);
    expect(await first.ready(), first.log).not.toBeNull();
    const context = await browser.newContext({ reducedMotion: 'reduce' });
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    const url = `http://127.0.0.1:${PORT}/`;
    // Whoever comes with a browser is led to the page.
    await page.goto(url);
    expect(page.url()).toBe(`${url}ui`);
    await page.getByText('You hold no reservation').waitFor();
    const create = (name: string) =>
      scene.send({
        action: 'create_reservation',
        user_id: 'ada',
        name,
        gpu_type: 'h100',
        gpu_count: 1,
        duration_hours: 4,
        no_persistent_disk: true,
      });
    await create('first-one');
    const card = (name: string) => page.getByRole('article', { name: `Reservation ${name}` });
    await card('first-one').getByText('running · serving').waitFor();

    await first.kill();
    await page.getByText('Reconnecting…').waitFor();
    // What it knew is still there to be read.
    await card('first-one').getByText('Running').first().waitFor();
    await create('second-one');
    const id = await card('first-one').getAttribute('data-id');
    await scene.send({ action: 'cancel', reservation_id: id, user_id: 'ada' });

    const second = scene.program(SERVICE, environment);
    expect(await second.ready(), second.log).not.toBeNull();
    await page.getByText('Live', { exact: true }).waitFor();
    await card('second-one').getByText('running · serving').waitFor();
    await page.getByText('Ended lately: 1').waitFor();
    expect(await card('first-one').count()).toBe(0);
    await context.close();
    second.signal('SIGTERM');
    await second.exited();
  });
});
