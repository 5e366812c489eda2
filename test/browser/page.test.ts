import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { JobBuilder } from '../../src/providers/local/builds.ts';
import { contextOf } from '../integration/builds/support.ts';
import { startBrowser } from '../support/chromium.ts';
import { inspectorTests, startStandIn } from './inspector.ts';
import type { WorldOptions } from '../support/world.ts';
import { keepPicture, type Opened, type Scene, startScene } from './support/scene.ts';

const { missing, browser } = await startBrowser();

/** Everything a chart has shown as active, in order. */
async function rememberActive(page: Page): Promise<void> {
  await page.evaluate(() => {
    const seen: string[] = [];
    Object.assign(globalThis, { seen });
    const look = () => {
      const names = [...document.querySelectorAll('.state[data-active="now"] .state-name')].map(
        (each) => each.getAttribute('aria-label') ?? '',
      );
      const finest = names.sort((a, b) => b.length - a.length)[0]?.split(',')[0];
      if (finest !== undefined && seen.at(-1) !== finest) seen.push(finest);
    };
    look();
    new MutationObserver(look).observe(document.body, {
      subtree: true,
      attributes: true,
      childList: true,
      attributeFilter: ['data-active'],
    });
  });
}
const remembered = (page: Page) => page.evaluate(() => (globalThis as unknown as { seen: string[] }).seen);

describe.skipIf(missing !== '')('the page', () => {
  let scene: Scene;
  let standIn: Awaited<ReturnType<typeof startStandIn>>;
  /** Reservations that come up while others are looked at, by name. */
  let prepared: Record<'calm-owl' | 'long-stay' | 'old-times', string>;
  const opened: Opened[] = [];
  const open: Scene['open'] = async (...args) => {
    const one = await scene.open(...args);
    opened.push(one);
    return one;
  };
  const reserve = async (user: string, wishes: object = {}): Promise<string> => {
    const body = { gpu_type: 't4', gpu_count: 1, duration_hours: 4, no_persistent_disk: true, ...wishes };
    const answer = await scene.http.post('/v1/reservations', body, { user });
    expect(answer.status, JSON.stringify(answer.body)).toBe(202);
    return answer.body.id;
  };
  beforeAll(async () => {
    standIn = await startStandIn();
    // Builds go on until a test ends them.
    const annotations = { 'simulation.gpu-dev/job-outcome': 'hang', 'simulation.gpu-dev/log': '#5 [1/2] FROM scratch' };
    const builder = () => new JobBuilder({ client: scene.http.world.client, annotations });
    const world: WorldOptions = {
      fleet: { t4: 2, a100: 1, 'cpu-x86': 1 },
      delays: { schedule: 150, pull: 700, start: 150, ready: 500 },
      ports: (ports) => ({
        ...ports,
        builder: { build: (request) => builder().build(request), cancel: (build) => builder().cancel(build) },
      }),
    };
    scene = await startScene(browser, world, { inspector: { url: standIn.url } });
    prepared = {
      'calm-owl': await reserve('bob', { name: 'calm-owl' }),
      'long-stay': await reserve('cleo', { name: 'long-stay', duration_hours: 24 }),
      'old-times': await reserve('dan', { name: 'old-times' }),
    };
  });
  afterAll(async () => {
    await scene?.stop();
    standIn?.server.close();
    // Whatever the tests looked at: no error on any page, none of its policy, no request to elsewhere.
    expect(opened.flatMap(({ wrongs }) => wrongs)).toEqual([]);
  });

  it('shows a reservation that was made by the API, and how it moves through the chart', async () => {
    // It waits for its GPU until somebody looks: a page that is loaded for the first time may take longer than a simulated pod.
    const holder = await reserve('zoe', { gpu_type: 'a100', gpu_count: 8 });
    await scene.http.world.reaches(holder, 'running');
    const { page, close } = await open('/board', { user: 'ada' });
    await page.getByText('You hold no reservation').waitFor();
    const id = await reserve('ada', { name: 'swift-fox', gpu_type: 'a100' });
    await page.getByRole('article', { name: 'Reservation swift-fox' }).waitFor();
    await page.getByRole('link', { name: 'swift-fox' }).click();
    await page.locator('.state[data-active="now"]', { hasText: 'capacity' }).last().waitFor();
    await rememberActive(page);
    await scene.http.post(`/v1/reservations/${holder}/events`, { type: 'cancel' }, { user: 'zoe' });
    await page.locator('.state[data-active="now"]', { hasText: 'serving' }).last().waitFor();
    const seen = await remembered(page);
    expect([seen[0], seen.at(-1)]).toEqual(['queued.capacity', 'running.serving']);
    // It was followed on its way there, step by step, in the order of the machine.
    const order = ['queued.capacity', 'provisioning.creating', 'provisioning.pulling', 'provisioning.probing', 'running.serving'];
    expect(seen.filter((name) => order.includes(name))).toEqual(order.filter((name) => seen.includes(name)));
    expect(seen.length).toBeGreaterThanOrEqual(2);
    const { body } = await scene.http.get(`/v1/reservations/${id}`, 'ada');
    await page.getByText(body.ssh_command).waitFor();
    for (const step of ['provisioning.creating', 'provisioning.pulling', 'running.serving']) {
      await page.getByRole('rowheader', { name: step }).waitFor();
    }
    await close();
  });

  it('extends and cancels, after asking', async () => {
    const id = prepared['calm-owl'];
    await scene.http.world.reaches(id, 'running');
    const before = (await scene.http.get(`/v1/reservations/${id}`, 'bob')).body;
    const { page, close } = await open('/board', { user: 'bob' });
    const card = page.getByRole('article', { name: 'Reservation calm-owl' });
    await card.getByRole('button', { name: 'Extend' }).click();
    const dialog = page.getByRole('dialog', { name: 'Extend calm-owl' });
    await dialog.getByLabel('By how many hours').selectOption('4');
    await dialog.getByRole('button', { name: 'Extend' }).click();
    await card.getByText(/Ends in 7 h 5\d min/).waitFor();
    const after = (await scene.http.get(`/v1/reservations/${id}`, 'bob')).body;
    expect(Date.parse(after.expires_at) - Date.parse(before.expires_at)).toBe(4 * 3_600_000);

    await card.getByRole('button', { name: 'Cancel' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Back' }).click();
    expect((await scene.http.get(`/v1/reservations/${id}`, 'bob')).body.state).toBe('running');
    await card.getByRole('button', { name: 'Cancel' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel the reservation' }).click();
    await page.getByText('Ended lately: 1').waitFor();
    await close();
  });

  it('shows each GPU type’s queue by itself, with its own places, to its end', async () => {
    // Of neither type is there any node.
    const first = await reserve('ann', { gpu_type: 'b200', name: 'first-there' });
    const owners = Array.from({ length: 103 }, (_, index) => `hal-${index % 6}`);
    const ids = await Promise.all(owners.map((owner) => reserve(owner, { gpu_type: 'h100' })));
    const { page, close } = await open('/board');
    const small = page.getByRole('region', { name: 'Queue for b200' });
    await small.getByText('1 waits').waitFor();
    await small.getByRole('link', { name: /first-there/ }).waitFor();
    expect(await small.locator('.place').allTextContents()).toEqual(['1']);
    const long = page.getByRole('region', { name: 'Queue for h100' });
    await long.getByText('103 wait').waitFor();
    await long.getByText(/^The first: /).waitFor();
    expect((await long.locator('.place').allTextContents()).slice(0, 3)).toEqual(['1', '2', '3']);
    const list = long.getByRole('group', { name: 'Who waits for h100' });
    const last = long.locator('.place', { hasText: /^103$/ });
    await scene.http.world.until('the last is in sight', async () => {
      await list.evaluate((box) => box.scrollTo(0, box.scrollHeight));
      return (await last.count()) === 1;
    });
    await keepPicture(page, 'queues');
    for (const [id, user] of [[first, 'ann'], ...ids.slice(3).map((id, index) => [id, owners[index + 3]])]) {
      await scene.http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: user! });
    }
    await long.getByText('3 wait', { exact: true }).waitFor();
    await small.waitFor({ state: 'detached' });
    await scene.http.world.until('no more than three are listed', async () => (await long.locator('.place').count()) === 3);
    await close();
  });

  it('shows what a build writes as it writes it', async () => {
    const { world } = scene.http;
    const id = await reserve('ivy', { dockerfile: contextOf({ Dockerfile: 'FROM scratch' }) });
    const { page, close } = await open(`/reservation/${id}`, { user: 'ivy' });
    const log = page.getByRole('log', { name: 'Lines of the build' });
    await log.getByText('#5 [1/2] FROM scratch').waitFor();
    const [pod] = (await world.pods()).filter((name) => name.startsWith('build-'));
    for (const line of ['#6 [2/2] RUN make', '#6 DONE 3.2s']) {
      await world.simulate(`/pods/gpu-dev/${pod}/log`, { text: line });
      await log.getByText(line).waitFor();
    }
    const { lines } = (await scene.http.get(`/v1/reservations/${id}/build-log`, 'ivy')).body;
    expect((await log.textContent())?.split('\n')).toEqual(lines.map(({ line }: { line: string }) => line));
    await scene.http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: 'ivy' });
    await close();
  });

  it('tells in words why it cannot extend, and stays usable', async () => {
    const id = prepared['long-stay'];
    await scene.http.world.reaches(id, 'running');
    await scene.http.post(`/v1/reservations/${id}/events`, { type: 'extend', extension_hours: 23 }, { user: 'cleo' });
    const { page, close } = await open(`/reservation/${id}`, { user: 'cleo' });
    await page.getByRole('button', { name: 'Extend', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('By how many hours').selectOption('24');
    await dialog.getByRole('button', { name: 'Extend' }).click();
    await dialog.getByRole('alert').waitFor();
    expect(await dialog.getByRole('alert').textContent()).toMatch(/48|limit|hours/);
    await dialog.getByRole('button', { name: 'Back' }).click();
    await close();
  });

  it('travels in time: state, what a step changed, and red where the fold differs from what was stored', async () => {
    const id = prepared['old-times'];
    await scene.http.world.reaches(id, 'running');
    const { page, close } = await open(`/reservation/${id}`, { user: 'dan' });
    const slider = page.getByRole('slider', { name: 'Step of the history' });
    await page.locator('.state[data-active="now"]', { hasText: 'serving' }).last().waitFor();
    await slider.press('Home');
    await page.getByText('Born into queued.capacity').waitFor();
    await page.getByText('Folding the history anew gives what was stored.').waitFor();
    await page.locator('.state[data-active="past"]', { hasText: 'capacity' }).last().waitFor();
    await slider.press('ArrowRight');
    await page.getByText('From queued.capacity to provisioning.creating').waitFor();
    await page.locator('.changes dt', { hasText: 'grant' }).first().waitFor();
    await page.locator('.travel li', { hasText: 'pod.create' }).first().waitFor();
    await keepPicture(page, 'time-travel');

    await scene.http.world.db.query(`update history set to_state = 'failed' where actor = $1 and seq = 3`, [`reservation/${id}`]);
    await slider.press('ArrowRight');
    await page.locator('.travel[data-wrong]').waitFor();
    expect(await page.locator('.travel').getByRole('alert').textContent()).toContain(
      'The fold differs from what was stored: History says it went to failed',
    );
    await keepPicture(page, 'time-travel-wrong');
    await page.getByRole('button', { name: 'Now' }).click();
    await page.locator('.state[data-active="now"]', { hasText: 'serving' }).last().waitFor();
    await scene.http.world.db.query(`update history set to_state = from_state where actor = $1 and seq = 3`, [
      `reservation/${id}`,
    ]);
    await close();
  });

  it('lets an operator replay and drop dead letters', async () => {
    const { world } = scene.http;
    await world.send({
      action: 'create_reservation',
      user_id: 'eve',
      gpu_type: 'm1',
      gpu_count: 1,
      duration_hours: 1,
      no_persistent_disk: true,
    });
    await world.send({ action: 'nonsense', user_id: 'eve' });
    const { page, close } = await open('/operators');
    const unknown = page.locator('[data-letter]', { hasText: 'GPU_TYPE_UNKNOWN' });
    await unknown.waitFor();
    await page.locator('[data-letter]', { hasText: 'GPU_ACTION_UNKNOWN' }).waitFor();
    await keepPicture(page, 'dead-letters');
    await world.db.query(
      `insert into gpu_types (gpu_type, instance_type, resource_name, max_gpus, max_per_node, cpus, memory_gb, cpu_share, memory_share, max_hours, max_total_hours)
       values ('m1', 'm1.large', 'nvidia.com/gpu', 4, 4, 48, 192, 0.2, 0.2, 24, 48)`,
    );
    await unknown.getByRole('button', { name: 'Replay' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Replay' }).click();
    await unknown.waitFor({ state: 'detached' });
    await world.until('the message was understood', async () => {
      const { rows } = await world.db.query(`select 1 from reservations where user_id = 'eve' and gpu_type = 'm1'`);
      return rows.length === 1;
    });
    await page.getByRole('button', { name: 'Drop' }).click();
    await page.getByRole('dialog').getByLabel('Why it is not needed').fill('a test');
    await page.getByRole('dialog').getByRole('button', { name: 'Drop' }).click();
    await page.getByText('Everything that came was understood and processed.').waitFor();
    await page.getByText('Dead letters: 0').waitFor();
    await close();
  });

  it('lets an operator retry at once what waits for its next try', async () => {
    const { world } = scene.http;
    await world.simulate('/faults', { kind: 'error', status: 500, verb: 'POST', path: '/pods$', message: 'no quorum' });
    const id = await reserve('kim', { name: 'slow-start' });
    const postpone = `update effects set next_at = now() + interval '1 hour' where actor = $1 and type = 'pod.create' and status = 'pending'
                         and attempts > 0 and lease_until is null`;
    await world.until('it waits for its next try', async () => {
      const { rowCount } = await world.db.query(postpone, [`reservation/${id}`]);
      return rowCount === 1;
    });
    await world.clearFaults();
    const { page, close } = await open('/operators');
    const row = page.locator('[data-effect]', { hasText: 'pod.create' });
    await row.getByText(/in 59 min|in 1 h/).waitFor();
    await row.getByText('no quorum').waitFor();
    await keepPicture(page, 'effect-that-waits');
    await row.getByRole('button', { name: `Retry pod.create of reservation/${id} now` }).click();
    await row.waitFor({ state: 'detached' });
    await world.reaches(id, 'running');
    const { rows } = await world.db.query(`select actor from audit_log where action = 'effect.retry'`);
    expect(rows).toEqual([{ actor: 'operator' }]);
    await close();
  });

  inspectorTests(() => scene);

  it('tells who is in a state, by the keyboard alone', async () => {
    const { page, close } = await open('/lifecycle');
    const state = page.getByRole('button', { name: /^running, \d+ in it$/ });
    await state.focus();
    await page.keyboard.press('Enter');
    const list = page.getByRole('list', { name: 'In running' });
    await list.getByRole('link', { name: 'swift-fox' }).waitFor();
    await page.getByRole('heading', { name: 'Takes and stays' }).waitFor();
    await page.getByRole('button', { name: 'Close' }).press('Enter');
    await list.waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Copy for Stately Studio' }).click();
    const copied = JSON.parse(await page.evaluate(() => navigator.clipboard.readText())) as unknown;
    expect(copied).toEqual((await scene.http.get('/v1/machines/reservation.json')).body);
    await close();
  });

  it('shows users what is theirs: no operators’ page, nobody else’s reservations', async () => {
    const { page, close } = await open('/operators', { user: 'zoe' });
    await page.getByText('You hold no reservation').waitFor();
    expect(await page.getByRole('link', { name: 'Operators' }).count()).toBe(0);
    // Who holds what is no secret; which reservation it is leads nowhere.
    await page.locator('.hold[title*="ada"]').waitFor();
    expect(await page.locator('a.hold').count()).toBe(0);
    const id = (await scene.http.get('/v1/reservations?user=ada')).body.reservations[0].id;
    await page.goto(`${scene.url}/ui#/reservation/${id}`);
    await page.getByRole('alert').waitFor();
    expect(await page.getByRole('alert').textContent()).toContain('There is no reservation');
    await close();
  });

  it('signs in by itself at this machine, with a key elsewhere, and tells a wrong one', async () => {
    const { page, close } = await open('/board', { user: null });
    await page.getByText('operator (admin)').waitFor();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('API key').fill('not-a-key');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('alert').waitFor();
    await keepPicture(page, 'sign-in');
    await page.getByLabel('API key').fill((await scene.http.as('ada')).authorization.slice('Bearer '.length));
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('banner').getByText('ada').waitFor();
    await close();
  });
});
