/** How the parameters of the statements about quotas are drawn. */
import fc from 'fast-check';
import { CLAIM, LOCK_USERS } from '../../../persistence/quotas.ts';
import * as a from './arbitrary.ts';

const { of, columns } = a;
const first = (row: unknown[]) => String(row[0]);

export const QUOTA_CASES: readonly (readonly [string, fc.Arbitrary<unknown[]>])[] = [
  [LOCK_USERS, columns(fc.tuple(a.user), first)],
  [CLAIM, columns(fc.tuple(a.reservation, a.user, of(1), of(null), of(1)), first)],
];
