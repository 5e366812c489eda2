import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { type Body, type Door, fresh, startDoor } from './support.ts';

let door: Door;
afterEach(async () => {
  await door?.stop();
});

/** Years that JavaScript writes and Postgres does not read, and the other way round. */
const NO_TIMES = ['+275760-01-01T00:00:00Z', '-000001-01-01T00:00:00Z', '0000-06-01T00:00:00Z', 'soon', 'infinity', '9999999'];

describe('a time that the database could not keep', () => {
  for (const batchSize of [1, 5]) {
    it(`counts as none: the create is accepted, ${batchSize} at a time`, async () => {
      door = await startDoor({ door: { batchSize } });
      const bodies = NO_TIMES.map((submitted_at) => fresh('create-cli', { submitted_at }));
      for (const body of bodies) await door.send(body);
      await door.drain();
      expect(await door.waiting()).toBe(0);
      expect(await door.letters()).toEqual([]);
      const { rows } = await door.db.query<Body>(
        `select actor, sent_at from history where event->>'type' = 'reservation.submitted' order by actor`,
      );
      const actors = bodies.map(({ reservation_id }) => `reservation/${reservation_id}`).sort();
      expect(rows).toEqual(actors.map((actor) => ({ actor, sent_at: null })));
    });
  }

  it('counts as none in a cancel as well', async () => {
    door = await startDoor({ door: { batchSize: 5 } });
    const body = fresh('create-cli');
    await door.send(body);
    const cancels = NO_TIMES.map((requested_at) => ({
      action: 'cancel',
      reservation_id: body.reservation_id,
      user_id: body.user_id,
      requested_at,
    }));
    for (const cancel of cancels) await door.send(cancel);
    await door.drain();
    expect(await door.waiting()).toBe(0);
    expect(await door.letters()).toEqual([]);
    expect(await door.mail(body.reservation_id)).toHaveLength(1 + cancels.length);
    const { rows } = await door.db.query<Body>(`select distinct sent_at from history where sender like 'queue:%'`);
    // The create came with a time of its own.
    expect(rows.filter(({ sent_at }) => sent_at !== null)).toHaveLength(1);
  });

  it('is told from the earliest and the latest that it could', async () => {
    door = await startDoor();
    const times = ['0001-01-02T00:00:00Z', '9999-12-31T23:59:59Z'];
    const bodies = times.map((submitted_at) => fresh('create-cli', { submitted_at }));
    for (const body of bodies) await door.send(body);
    await door.drain();
    const { rows } = await door.db.query<Body>(
      `select extract(year from sent_at)::int as year from history where event->>'type' = 'reservation.submitted' order by sent_at`,
    );
    expect(rows).toEqual([{ year: 1 }, { year: 9999 }]);
  });
});

/** A rule of the database that our code knows nothing of, broken by one reservation. */
async function refuse(id: string, sqlState: string): Promise<void> {
  await door.db.query('create table refused (object text primary key, sql_state text not null)');
  await door.db.query('insert into refused values ($1, $2)', [`reservation/${id}`, sqlState]);
  await door.db.query(
    `create function refuse_some() returns trigger language plpgsql as $$
     declare
       state text;
     begin
       select sql_state into state from refused where object = new.object;
       if state is null then return new; end if;
       raise exception 'not this one' using errcode = state;
     end $$`,
  );
  await door.db.query('create trigger refuse_some before insert on audit_log for each row execute function refuse_some()');
}

const unhide = () => door.db.query('update pgmq.q_gpu_reservations set vt = now()');

describe('a message whose statement the database refuses', () => {
  for (const [sqlState, what] of [
    ['23514', 'a check'],
    ['22008', 'a value out of range'],
    ['54000', 'a limit of the program'],
  ] as const) {
    it(`is poison after its tries, and the others of its batch are accepted: ${what}`, async () => {
      door = await startDoor({ door: { batchSize: 5, poisonReads: 2 } });
      const bodies = Array.from({ length: 5 }, () => fresh('create-cli'));
      const [bad, ...good] = [bodies[2]!, bodies[0]!, bodies[1]!, bodies[3]!, bodies[4]!];
      await refuse(bad.reservation_id, sqlState);
      const ids: number[] = [];
      for (const body of bodies) ids.push(await door.send(body));
      await door.drain();
      for (const { reservation_id } of good) expect(await door.mail(reservation_id)).toHaveLength(1);
      expect(await door.waiting()).toBe(1);
      expect(await door.letters()).toEqual([]);
      await unhide();
      await door.drain();
      expect(await door.waiting()).toBe(0);
      expect(await door.letters()).toMatchObject([{ code: 'GPU_MESSAGE_POISONED', msg_id: ids[2], reason: 'not this one' }]);
      expect(await door.archived(ids[2]!)).toBe(true);
      expect(await door.mail(bad.reservation_id)).toEqual([]);
      expect(door.door.stats).toMatchObject({ accepted: 4, poisoned: 1 });
    });
  }

  it('is found among messages that are not creates, too', async () => {
    door = await startDoor({ door: { batchSize: 5, poisonReads: 1 } });
    const bad = randomUUID() as string;
    await refuse(bad, '23514');
    const good = fresh('create-cli');
    await door.send({ action: 'cancel', reservation_id: bad, user_id: 'ann' });
    await door.send(good);
    await door.drain();
    expect(await door.waiting()).toBe(0);
    expect(await door.mail(good.reservation_id)).toHaveLength(1);
    expect((await door.letters()).map(({ code }) => code)).toEqual(['GPU_MESSAGE_POISONED']);
  });

  it('for a reason that may pass is no poison: it stays, and is taken when the reason is gone', async () => {
    door = await startDoor({ door: { batchSize: 5, poisonReads: 1 } });
    const body = fresh('create-cli');
    await refuse(body.reservation_id, '53100');
    await door.send(body);
    await expect(door.consume()).rejects.toThrow('not this one');
    await expect(door.consume()).rejects.toThrow('not this one');
    expect(await door.waiting()).toBe(1);
    await door.db.query('delete from refused');
    await door.drain();
    expect(await door.waiting()).toBe(0);
    expect(await door.mail(body.reservation_id)).toHaveLength(1);
    expect(await door.letters()).toEqual([]);
  });
});
