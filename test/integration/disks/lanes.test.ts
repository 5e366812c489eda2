import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DevServers } from '../../../actors/reservation/ports.ts';
import { startWorld, type World } from '../../support/world.ts';
import { open } from './session.ts';

let world: World;
/** Jupyter starts when this is called. */
let letGo: () => void = () => {};
let starts = 0;

beforeAll(async () => {
  const gate = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  world = await startWorld({
    fleet: { t4: 1 },
    ports: (ports) => {
      const startJupyter: DevServers['startJupyter'] = async (server, token) => {
        starts++;
        await gate;
        return ports.servers.startJupyter(server, token);
      };
      const servers = new Proxy(ports.servers, {
        get: (target, name) => {
          if (name === 'startJupyter') return startJupyter;
          const own = Reflect.get(target, name, target) as unknown;
          return typeof own === 'function' ? own.bind(target) : own;
        },
      });
      return { ...ports, servers };
    },
  });
});
afterAll(async () => {
  letGo();
  await world?.stop();
});

describe('Jupyter that is switched on and off again and again while its start hangs', () => {
  it('never has more than the running effect and the newest wish, delays no notice, and ends as wished last', async () => {
    const id = (await open(world, 'none'))['reservation_id'] as string;
    const actor = `reservation/${id}`;
    await world.send({ action: 'enable_jupyter', reservation_id: id, user_id: 'ann' });
    await world.until('its start runs', async () => starts === 1);
    for (let n = 0; n < 20; n++) {
      await world.send({ action: n % 2 === 0 ? 'disable_jupyter' : 'enable_jupyter', reservation_id: id, user_id: 'ann' });
    }
    await world.until('all are read', async () => {
      const { rows } = await world.db.query<{ n: number }>(
        `select count(*)::int as n from history where actor = $1 and event->>'type' in ('enable_jupyter', 'disable_jupyter')`,
        [actor],
      );
      return rows[0]!.n === 21;
    });
    const pending = await world.db.query(
      `select type from effects where actor = $1 and lane = 'jupyter' and status = 'pending' order by seq`,
      [actor],
    );
    expect(pending.rows).toEqual([{ type: 'jupyter.start' }, { type: 'jupyter.start' }]);

    await world.send({ action: 'extend', reservation_id: id, user_id: 'ann', extension_hours: 1 });
    await world.until('the notice is posted', async () => {
      const { rowCount } = await world.db.query(
        `select 1 from effects where actor = $1 and type = 'notice.post' and status = 'done'`,
        [actor],
      );
      return rowCount === 1;
    });
    expect(starts).toBe(1);
    letGo();
    await world.until('Jupyter is on', async () => (await world.reservation(id))?.['jupyter_state'] === 'on');
    await world.until('nothing is left to do', async () => {
      const { rowCount } = await world.db.query(`select 1 from effects where actor = $1 and status = 'pending'`, [actor]);
      return rowCount === 0;
    });
    expect(starts).toBe(2);
    expect((await world.reservation(id))?.['jupyter_state']).toBe('on');
  });
});
