import { describe, expect, it } from 'vitest';
import type { Step } from '../../persistence/changes.ts';
import { Audience } from '../../src/http/audience.ts';
import { EventStream } from '../../src/http/event-stream.ts';
import type { ReservationView } from '../../src/http/reservation-view.ts';
import { StreamOfMany } from '../../src/http/stream-of-many.ts';
import { StreamOfOne } from '../../src/http/stream-of-one.ts';

const by = (user: string, admin = false) => ({ user, admin, keyId: 1 });
const stepOf = (id: string, owner: string): Step => ({ id, owner, seq: 1 }) as Step;

/** Streams that are given steps, and read nothing by themselves. */
function many(lines: Audience, user: string, owner: string | null): StreamOfMany {
  const session = new StreamOfMany(new EventStream(), by(user, owner === null), owner, { lines } as never);
  lines.add(session);
  return session;
}
function one(lines: Audience, user: string, of: { id: string; owner: string }, admin = false): StreamOfOne {
  const session = new StreamOfOne(new EventStream(), by(user, admin), of, { lines } as never);
  session.open(async () => {});
  lines.add(session);
  return session;
}

describe('who gets a step', () => {
  it('is its owner, whoever may see it, and whoever listens to all', () => {
    const lines = new Audience();
    const [ada, bob, everybody] = [many(lines, 'ada', 'ada'), many(lines, 'bob', 'bob'), many(lines, 'root', null)];
    const adas = stepOf('r1', 'ada');
    expect([...lines.recipients([adas], new Map()).keys()]).toEqual([everybody, ada]);
    expect([...lines.recipients([adas], new Map([['r1', ['bob']]])).keys()]).toEqual([everybody, ada, bob]);
  });

  it('is who listens to that reservation alone, as long as they may see it', () => {
    const lines = new Audience();
    const of = { id: 'r1', owner: 'ada' };
    const [ada, guest, admin] = [one(lines, 'ada', of), one(lines, 'bob', of), one(lines, 'root', of, true)];
    const steps = [stepOf('r1', 'ada'), stepOf('r2', 'ada')];
    const found = lines.recipients(steps, new Map());
    expect([...found]).toEqual([
      [ada, [steps[0]]],
      [admin, [steps[0]]],
    ]);
    expect([...lines.recipients(steps, new Map([['r1', ['bob']]])).keys()]).toEqual([ada, guest, admin]);
  });
});

describe('who listens to a line', () => {
  const view = (id: string, substate: string) =>
    ({
      id,
      state: 'queued',
      substate,
      gpu_type: 'h100',
      position: 1,
      estimated_start: null,
      waits_because: null,
    }) as ReservationView;
  const give = async (session: StreamOfOne, seq: number, substate: string) => {
    const step = { ...stepOf(session.id, 'ada'), seq };
    session.take({ before: '', after: '', steps: [{ step, view: view(session.id, substate), body: '', ends: false } as never] });
    await expect.poll(() => session.isIdle).toBe(true);
  };
  const heard = (lines: Audience) =>
    [...lines.lines].map(([gpuType, line]) => [gpuType, [...line].map(([id, sessions]) => [id, sessions.size])]);

  it('is who listens to one that waits in it, until it waits there no longer', async () => {
    const lines = new Audience();
    const [first, second] = [one(lines, 'ada', { id: 'r1', owner: 'ada' }), one(lines, 'ada', { id: 'r1', owner: 'ada' })];
    for (const session of [first, second]) await give(session, 1, 'capacity');
    await give(first, 2, 'capacity');
    expect(heard(lines)).toEqual([['h100', [['r1', 2]]]]);
    await give(first, 3, 'disk');
    expect(heard(lines)).toEqual([['h100', [['r1', 1]]]]);
    await give(second, 2, 'disk');
    expect(heard(lines)).toEqual([]);
  });

  it('nothing is kept of who has gone, whatever is on its way to them', async () => {
    const lines = new Audience();
    const [gone, goes] = [one(lines, 'ada', { id: 'r1', owner: 'ada' }), one(lines, 'ada', { id: 'r2', owner: 'ada' })];
    for (const session of [gone, goes]) await give(session, 1, 'capacity');
    lines.remove(gone);
    goes.stream.destroy();
    lines.remove(goes);
    await give(goes, 2, 'disk');
    await give(goes, 3, 'capacity');
    expect([lines.size, heard(lines), lines.all()]).toEqual([0, [], []]);
    expect(lines.recipients([stepOf('r1', 'ada'), stepOf('r2', 'ada')], new Map()).size).toBe(0);
  });
});
