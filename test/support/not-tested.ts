/** What a platform lacks is said where it is noticed, and again by the summary of CI: tests that are left out must not look like tests that passed. */
import { appendFileSync } from 'node:fs';

/** The file in which CI gathers these lines; unset elsewhere. */
const FILE = 'GPU_DEV_NOT_TESTED';

/** Say on standard error that this is not tested here, and why. */
export function notTested(what: string, why: string): void {
  const line = `NOT TESTED ${what}: ${why.replaceAll('\n', ' ')}`;
  process.stderr.write(`\n${line}\n`);
  const file = process.env[FILE];
  if (file) appendFileSync(file, `${line}\n`);
}
