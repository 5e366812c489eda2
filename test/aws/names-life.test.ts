// Names and ways to Jupyter through a whole gpu-dev, from the request to the proof that nothing is left: by moto's own lists, not by our tables.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serveDomain } from '../../persistence/names.ts';
import { findReservationRow } from '../../persistence/reservations.ts';
import { viewOf } from '../../src/http/reservation-view.ts';
import { type Scene, startScene } from '../old-failures/scene.ts';
import { historyOf } from '../old-failures/support.ts';
import { startMoto } from '../support/moto.ts';
import type { World } from '../support/world.ts';
import { BadDay } from './support/bad-day.ts';
import { type Domain, domainPorts, makeDomain } from './support/domain.ts';

const NAME = 'select * from domain_mappings where reservation_id = $1';
const WAY = 'select * from alb_target_groups where reservation_id = $1';
const moto = await startMoto();

describe.skipIf(moto.missing)('the name of a server', () => {
  let scene: Scene;
  let world: World;
  let domain: Domain;
  let day: BadDay;
  const places: [number, number] = [1_000, 1_999];
  beforeAll(async () => {
    domain = await makeDomain(moto.url);
    day = await BadDay.before(moto.url);
    scene = await startScene({
      fleet: { t4: 3 },
      ports: (base) => ({ ...base, ...domainPorts(domain, day.url, { places, aws: { maxAttempts: 1 } }) }),
    });
    world = scene.world;
    await serveDomain(world.db, 'dev.test');
  });
  afterAll(async () => {
    await scene?.stop();
    await day?.stop();
  });

  const row = async (id: string, of: string = NAME) => (await world.db.query<Record<string, unknown>>(of, [id])).rows[0] ?? null;
  const published = (id: string, of?: string) =>
    world.until(`${id} is published`, async () => {
      const found = await row(id, of);
      return found !== null && found['published_at'] !== null ? found : null;
    });
  const nothingLeft = async () => {
    let left: string[] = [];
    await world
      .until('nothing is left', async () => {
        left = await domain.left();
        return left.length === 0;
      })
      .catch((error: Error) => Promise.reject(new Error(`${error.message}: ${left.join('; ')}`)));
    await scene.checkEnd();
  };
  /** As people read it. */
  const hostname = async (id: string) => viewOf((await findReservationRow(world.db, id))!, null, undefined).hostname;
  const types = async (id: string) => (await historyOf(world.db, id)).map((entry) => entry.type as string);

  it('N1 N2 N3: stands while the server is usable, with the way to its Jupyter, and goes with it', async () => {
    const id = await scene.running({ name: 'My_Box', jupyter_enabled: true });
    const { fqdn, node_ip: host, node_port: port } = await published(id);
    expect(fqdn).toBe('my-box.dev.test');
    const routed = await published(id, WAY);
    expect(await domain.records()).toEqual([
      `_gpu-dev.my-box.dev.test TXT "heritage=gpu-dev,cluster=prod,reservation=${id},life=1,port=${port}"`,
      `my-box.dev.test A ${host}`,
    ]);
    expect(await domain.rules()).toEqual([`${routed['place']} my-box.dev.test`]);
    expect(await domain.groups()).toEqual([expect.stringContaining(`:${routed['node_port']}`)]);
    const shown = await world.until('the way is told', async () => {
      const found = await world.reservation(id);
      return found?.['jupyter_url'] === 'https://my-box.dev.test/' ? found : null;
    });
    expect(shown['jupyter_state']).toBe('on');
    expect(await hostname(id)).toEqual({ name: 'my-box.dev.test', published: true, problem: null });
    expect(await types(id)).toEqual(expect.arrayContaining(['name.published', 'route.published']));
    await scene.cancel(id);
    await nothingLeft();
  });

  it('R15 N2: two who wish for one name get two, and each goes with its own server', async () => {
    const first = await scene.running({ name: 'twin' });
    const second = await scene.running({ name: 'twin' });
    expect([(await published(first))['fqdn'], (await published(second))['fqdn']]).toEqual(['twin.dev.test', 'twin-2.dev.test']);
    await scene.cancel(first);
    await world.until('only the second is left', async () => (await domain.records()).length === 2);
    expect((await domain.records())[1]).toMatch(/^twin-2\.dev\.test A /);
    await scene.cancel(second);
    await nothingLeft();
    const third = await scene.running({ name: 'twin' });
    // (Moto refuses to make a record again that was there before, so what DNS says is asked on the stub.)
    expect((await world.reservation(third))!['name']).toBe('twin');
    await scene.cancel(third);
    await nothingLeft();
  });

  it('a DNS that fails holds up nobody: the server runs and ends, and its name stays its own until it is gone', async () => {
    day.fate = () => 'failed';
    const id = await scene.running({ name: 'slow' });
    const waiting = await world.until('it is told', async () => ((await row(id))?.['problem'] == null ? null : row(id)));
    expect(waiting).toMatchObject({
      fqdn: 'slow.dev.test',
      published_at: null,
      problem: expect.stringMatching(/InternalFailure/),
    });
    expect(await hostname(id)).toEqual({ name: 'slow.dev.test', published: false, problem: waiting!['problem'] });
    day.fate = () => 'done';
    await published(id);
    day.fate = () => 'failed';
    await scene.cancel(id);
    expect(await row(id)).toMatchObject({ fqdn: 'slow.dev.test', freed_at: expect.any(Date) });
    // Whoever wishes for it now gets another.
    const next = await scene.submit({ name: 'slow' });
    await world.reaches(next, 'running');
    expect((await world.reservation(next))!['name']).toBe('slow-2');
    day.fate = () => 'done';
    await scene.cancel(next);
    await nothingLeft();
  });

  it('a way that finds no room leaves the port of the node, and says why', async () => {
    day.fate = (action) => (action === 'CreateTargetGroup' ? { code: 'TooManyTargetGroups' } : 'done');
    const id = await scene.running({ jupyter_enabled: true });
    const told = await world.until('it is told', async () => {
      const found = await world.reservation(id);
      return found?.['jupyter_error'] == null ? null : found;
    });
    expect(told).toMatchObject({ jupyter_state: 'on', jupyter_url: expect.stringMatching(/^http:\/\/10\./) });
    expect(told['jupyter_error']).toMatch(/no room/);
    expect(await row(id, WAY)).toBeNull();
    day.fate = () => 'done';
    await scene.cancel(id);
    await nothingLeft();
  });

  it('N12: where all places of the pool are given the next one is told so, and gets the first that is free', async () => {
    places[1] = places[0];
    const first = await scene.running({ jupyter_enabled: true });
    await published(first, WAY);
    const second = await scene.running({ jupyter_enabled: true });
    const told = await world.until('it is told', async () => {
      const found = await world.reservation(second);
      return found?.['jupyter_error'] == null ? null : found;
    });
    expect(told['jupyter_error']).toBe('All 1 places on the load balancer are taken');
    expect(await row(second, WAY)).toBeNull();
    expect(await domain.rules()).toHaveLength(1);
    await scene.cancel(first);
    await world.until('its place is free', async () => (await row(first, WAY)) === null);
    for (const action of ['disable_jupyter', 'enable_jupyter']) await world.send({ action, reservation_id: second });
    expect(await published(second, WAY)).toMatchObject({ place: 1_000 });
    places[1] = 1_999;
    await scene.cancel(second);
    await nothingLeft();
  });

  it('Jupyter switched off and on again has a way when it is on, and none when it is off', async () => {
    const id = await scene.running({ jupyter_enabled: true });
    await published(id, WAY);
    await world.send({ action: 'disable_jupyter', reservation_id: id });
    await world.until('the way is gone', async () => (await domain.rules()).length + (await domain.groups()).length === 0);
    await world.send({ action: 'enable_jupyter', reservation_id: id });
    await world.until('the way is back', async () => (await domain.rules()).length === 1);
    await scene.cancel(id);
    await nothingLeft();
  });
});
