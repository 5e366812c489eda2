import { expect, it } from 'vitest';
import { dehydrate } from '../../actors/kernel/revive.ts';
import { acceptedBy } from '../../src/http/accepted.ts';
import { pathsOf } from './explore.ts';
import { statePath } from './graph.ts';
import { RESERVATION_SCENARIOS } from './reservation.cases.ts';
import { reservationModel } from './reservation.model.ts';

it('what is remembered of a state is what its machine says of every reservation in it', () => {
  const { kind } = reservationModel;
  const answers = new Map<string, Set<string>>();
  let compared = 0;
  for (const { snapshot } of RESERVATION_SCENARIOS.flatMap((scenario) => pathsOf(reservationModel, scenario))) {
    const stored = dehydrate(kind, snapshot);
    const { owner, users } = stored.context as { owner: string; users: string[] };
    const row = {
      user_id: owner,
      secondary_users: users,
      machine_version: kind.version,
      snapshot: stored,
      is_quarantined: false,
    };
    // Of another kind nothing is remembered.
    const exact = acceptedBy(row, { ...kind });
    expect(acceptedBy(row, kind), statePath(stored.value)).toEqual(exact);
    expect(acceptedBy({ ...row, is_quarantined: true }, kind)).toEqual([]);
    const state = statePath(stored.value);
    answers.set(state, (answers.get(state) ?? new Set()).add(exact.join()));
    compared++;
  }
  expect(compared).toBeGreaterThan(500);
  expect([...answers.get('queued.capacity')!]).toEqual(['cancel']);
  // Where it depends on the reservation, it is asked each time.
  expect(answers.get('running.serving')!.size).toBeGreaterThan(1);
});
