/**
 * npm run golden: writes the golden snapshots of the present versions.
 * The files of a version that was released are never written again: raise the kind's version, and add a migration, first.
 */
import { writeGolden } from './golden.ts';

console.info(`${writeGolden()} golden snapshots written`);
