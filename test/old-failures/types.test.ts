import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { reservationMachine } from '../../machines/reservation.machine.ts';
import { STATES } from '../../src/http/reservation-view.ts';
import { type Body, type Door, startDoor } from '../messages/support.ts';

const ROOT = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'gpu-dev-types-'));
let door: Door;
let complaints = '';

/** Mistakes of the old system, planted; each must be one that the compiler sees. */
const PLANTED: Record<string, string> = {
  'method.ts': `
    import type { Tracker } from '${ROOT}/actors/gpu-pool/tracker.ts';
    export const free = (tracker: Tracker) => tracker.getAvailableGpus('h100');`,
  'import.ts': `
    import type { Database } from '${ROOT}/persistence/database.ts';
    export const lock = (db: Database) => acquireMultinodeLock(db, 'gang');`,
  'status.ts': `
    import type { Outcome } from '${ROOT}/machines/reservation.context.ts';
    export function words(status: Outcome['status']): string {
      switch (status) {
        case 'expired': return 'over';
        case 'failed': return 'failed';
      }
    }`,
  'event.ts': `
    import type { ReservationMessage } from '${ROOT}/machines/reservation.events.ts';
    export const event: ReservationMessage = { type: 'extend_reservation', by: null, hours: 1 };`,
  'effect.ts': `
    import { effect } from '${ROOT}/machines/authoring.ts';
    import type { ReservationEffect } from '${ROOT}/machines/reservation.effects.ts';
    export const wrong = effect<ReservationEffect>({ type: 'pod.remove', generation: 1 });`,
  'sound.ts': `
    import type { Tracker } from '${ROOT}/actors/gpu-pool/tracker.ts';
    export const age = (tracker: Tracker) => tracker.ageMs();`,
};

beforeAll(async () => {
  door = await startDoor();
  for (const [name, text] of Object.entries(PLANTED)) writeFileSync(join(folder, name), text);
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
  const config = {
    extends: join(ROOT, 'tsconfig.json'),
    compilerOptions: { typeRoots: [join(ROOT, 'node_modules/@types')] },
    include: [folder],
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
  const tsc = join(ROOT, 'node_modules/.bin/tsc');
  complaints = await promisify(execFile)(tsc, ['--noEmit', '-p', folder]).then(
    () => '',
    (error: { stdout: string }) => error.stdout,
  );
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await door?.stop();
});

/** What the compiler says of one planted file. */
function saidOf(file: string): string {
  return complaints
    .split('\n')
    .filter((line) => line.includes(file))
    .join('\n');
}

describe('the compiler', () => {
  it('S20: refuses a call of a method that does not exist', () => {
    expect(saidOf('method.ts')).toMatch(/'getAvailableGpus' does not exist on type 'Tracker'/);
    expect(saidOf('sound.ts')).toBe('');
  });

  it('S21: refuses a function that nobody imported', () => {
    expect(saidOf('import.ts')).toMatch(/Cannot find name 'acquireMultinodeLock'/);
  });

  it('S19: refuses an event or an effect that is not in the closed union, in its name or in its fields', () => {
    expect(saidOf('event.ts')).toMatch(/extend_reservation/);
    expect(saidOf('effect.ts')).toMatch(/force|not assignable/);
  });

  it('S10: refuses a switch over states that forgets one', () => {
    expect(saidOf('status.ts')).toMatch(/TS(2366|7030)/);
  });
});

describe('states', () => {
  it('S10: are one closed list for the machine, the database and the API, and each live one can be cancelled and is counted', async () => {
    const { rows } = await door.db.query<Body>('select unnest(enum_range(null::reservation_status))::text as s');
    const inDatabase = rows.map((row) => row.s);
    expect(Object.keys(reservationMachine.states)).toEqual(inDatabase);
    expect([...STATES]).toEqual(inDatabase);
    for (const [name, state] of Object.entries(reservationMachine.states)) {
      const live = state.type !== 'final';
      expect(state.tags.includes('live'), name).toBe(live);
      expect(state.ownEvents.includes('cancel'), name).toBe(live);
    }
    const holding = Object.entries(reservationMachine.states)
      .filter(([, state]) => state.tags.includes('holds-slots'))
      .map(([name]) => name);
    expect(holding).toEqual(['provisioning', 'running', 'extending']);
    expect(reservationMachine.states['snapshotting']!.states['stopping']!.tags).toContain('holds-slots');
  });
});
