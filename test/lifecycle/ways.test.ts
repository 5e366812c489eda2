import { expect, it } from 'vitest';
import { reservationMachine } from '../../machines/reservation.machine.ts';
import { MACHINES } from '../../src/lifecycle/charts.ts';
import { Traffic } from '../../src/lifecycle/traffic.ts';
import { Ways } from '../../src/lifecycle/ways.ts';

const ways = new Ways(reservationMachine);
const NOW = Date.parse('2026-03-02T10:00:30.000Z');

it('a step whose finer state is known took just one way, also through what is transient', () => {
  const born = ways.follow(null, { type: 'reservation.submitted', from: null, to: 'queued', leaf: 'gang' });
  expect([...born.taken]).toEqual([['reservation.queued.deciding|always|1', 1]]);
  expect([...born.leaves]).toEqual(['reservation.queued.gang']);
  const complete = ways.follow(born.leaves, { type: 'gang.complete', from: 'queued', to: 'queued', leaf: 'capacity' });
  expect([...complete.taken]).toEqual([
    ['reservation.queued.gang|gang.complete|0', 1],
    ['reservation.queued.deciding|always|4', 1],
  ]);
  const granted = ways.follow(complete.leaves, {
    type: 'capacity.granted',
    from: 'queued',
    to: 'provisioning',
    leaf: 'creating',
  });
  expect([...granted.taken]).toEqual([
    ['reservation.queued.capacity|capacity.granted|0', 1],
    ['reservation.provisioning.deciding|always|1', 1],
  ]);
  // A leaf that this chart does not know, of another version perhaps, is as good as none.
  const strange = ways.follow(null, { type: 'reservation.submitted', from: null, to: 'queued', leaf: 'gone' });
  expect(strange.leaves.size).toBe(3);
});

it('without it, a birth is followed through all that is transient', () => {
  const { taken, leaves } = ways.follow(null, { type: 'reservation.submitted', from: null, to: 'queued', leaf: null });
  expect([...leaves].sort()).toEqual(['reservation.queued.capacity', 'reservation.queued.disk', 'reservation.queued.gang']);
  // Three ways are open; each gets its part.
  expect([...taken.values()].reduce((sum, part) => sum + part, 0)).toBeCloseTo(1);
});

it('what is known of an actor makes ambiguous steps certain', () => {
  const granted = ways.follow(null, { type: 'capacity.granted', from: 'queued', to: 'provisioning', leaf: null });
  expect(granted.taken.get('reservation.queued.capacity|capacity.granted|0')).toBe(1);
  const scheduled = ways.follow(granted.leaves, { type: 'pod.scheduled', from: 'provisioning', to: 'provisioning', leaf: null });
  expect([...scheduled.leaves]).toEqual(['reservation.provisioning.pulling']);
  const started = ways.follow(scheduled.leaves, { type: 'pod.started', from: 'provisioning', to: 'provisioning', leaf: null });
  expect([...started.taken]).toEqual([['reservation.provisioning.pulling|pod.started|0', 1]]);
  const ready = ways.follow(started.leaves, { type: 'pod.ready', from: 'provisioning', to: 'running', leaf: null });
  expect([...ready.taken]).toEqual([['reservation.provisioning.probing|pod.ready|0', 1]]);
  const cancelled = ways.follow(ready.leaves, { type: 'cancel', from: 'running', to: 'snapshotting', leaf: null });
  expect([...cancelled.taken]).toEqual([['reservation.running|cancel|0', 1]]);
  expect([...cancelled.leaves]).toEqual(['reservation.snapshotting.stopping']);
});

it('history states lead to wherever one may have been, and a step that fits nowhere is no guess', () => {
  const extending = ways.follow(null, { type: 'extend', from: 'running', to: 'extending', leaf: null });
  const refused = ways.follow(extending.leaves, { type: 'extension.refused', from: 'extending', to: 'running', leaf: null });
  expect([...refused.leaves].sort()).toEqual(['reservation.running.grace', 'reservation.running.serving']);
  const strange = ways.follow(null, { type: 'pod.ready', from: 'running', to: 'queued', leaf: null });
  expect([...strange.taken]).toEqual([]);
  expect(strange.leaves.size).toBeGreaterThan(0);
});

it('counts each step once, for a minute', () => {
  const traffic = new Traffic(MACHINES);
  const step = {
    actor: 'reservation/a',
    type: 'capacity.granted',
    outcome: 'applied' as const,
    from: 'queued',
    to: 'provisioning',
    leaf: null,
  };
  const at = new Date(NOW);
  traffic.note({ ...step, seq: 2, at });
  traffic.note({ ...step, seq: 2, at });
  traffic.note({ ...step, actor: 'reservation/b', seq: 5, at });
  traffic.note({ ...step, actor: 'reservation/c', seq: 5, at, outcome: 'ignored' });
  traffic.note({ ...step, actor: 'lamp/c', seq: 5, at });
  const id = 'reservation.queued.capacity|capacity.granted|0';
  expect(traffic.perMinute(NOW)['reservation']?.[id]).toBe(2);
  expect(traffic.perMinute(NOW + 59_000)['reservation']?.[id]).toBe(2);
  expect(traffic.perMinute(NOW + 61_000)).toEqual({});
});
