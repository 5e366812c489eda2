/** Processor time: what a measurement cost, whoever else was busy at the time. */
import { readdirSync, readFileSync } from 'node:fs';

/** Clock ticks of /proc a second. */
const TICKS = 100;

/** Processor time that a process has used, in seconds; with that of its ended children if `ended`. 0 if it is gone. */
export function processorSeconds(pid: number, ended = false): number {
  const fields = statOf(pid);
  if (fields === null) return 0;
  const own = Number(fields[11]) + Number(fields[12]);
  return (own + (ended ? Number(fields[13]) + Number(fields[14]) : 0)) / TICKS;
}

/** Processor time of a process and all its children, those that have ended included, in seconds. */
export function familySeconds(pid: number): number {
  let sum = processorSeconds(pid, true);
  for (const name of readdirSync('/proc')) {
    if (/^\d+$/.test(name) && statOf(Number(name))?.[1] === String(pid)) sum += processorSeconds(Number(name));
  }
  return sum;
}

/** The fields of /proc/PID/stat from the state on. */
function statOf(pid: number): string[] | null {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? null;
  } catch {
    return null;
  }
}
