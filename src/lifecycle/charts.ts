/** The state machines that the service runs, by the kind of actor. */
import type { AnyStateMachine } from 'xstate';
import { diskMachine } from '../../machines/disk.machine.ts';
import { poolMachine } from '../../machines/gpu-pool.machine.ts';
import { imageMachine } from '../../machines/image.machine.ts';
import { reservationMachine } from '../../machines/reservation.machine.ts';
import { Problem } from '../errors.ts';

export const MACHINES: Readonly<Record<string, AnyStateMachine>> = {
  reservation: reservationMachine,
  'gpu-pool': poolMachine,
  disk: diskMachine,
  image: imageMachine,
};
export const MACHINE_NAMES = Object.keys(MACHINES);

/** The machine of this name, which may end in `.json`. @throws Problem if there is none. */
export function machineOf(given: string): { name: string; machine: AnyStateMachine } {
  const name = given.replace(/\.json$/, '');
  const machine = Object.hasOwn(MACHINES, name) ? MACHINES[name] : undefined;
  if (machine !== undefined) return { name, machine };
  throw new Problem('GPU_MACHINE_UNKNOWN', `There is no machine ${name.slice(0, 100)}; there are ${MACHINE_NAMES.join(', ')}`, {
    field: 'name',
    details: { allowed: MACHINE_NAMES },
  });
}
