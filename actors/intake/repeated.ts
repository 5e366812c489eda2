/** A request that comes again under its key or its id: the same is done once; another is refused, or somebody would believe it was done. */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { ReservationMessage } from '../../machines/reservation.events.ts';
import type { Transaction } from '../../persistence/database.ts';
import { Problem } from '../problem.ts';
import type { ParsedCreate } from './create.ts';

/**
 * What a create asks for, in a few letters. What differs between two sendings of one request does not count: times, the sender's version,
 * fields that we do not know.
 */
export function fingerprintOf({ request, name, disk, environment, build }: ParsedCreate): string {
  const { clientVersion: _version, extra: _extra, ...wish } = request;
  const text = JSON.stringify(inOrder({ ...wish, name, disk, environment, build: build?.hash ?? null }));
  return createHash('sha256').update(text).digest('base64url').slice(0, 22);
}

function inOrder(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inOrder);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, inOrder(inner)]),
  );
}

/** @throws Problem if a create that was accepted before asked for something else. @param earlier its fingerprint; null if it is not known */
export function assertSameCreate(parsed: ParsedCreate, earlier: string | null): void {
  if (earlier === null || earlier === fingerprintOf(parsed)) return;
  const [what, field] = parsed.reservationId === null ? ['key', 'idempotency_key'] : ['reservation_id', 'reservation_id'];
  throw new Problem('GPU_IDEMPOTENCY_CONFLICT', `This ${what} was used for a request of something else; that one stands`, {
    field,
  });
}

export const EVENT_OF_KEY = `
  select event from mailbox where actor = $1 and key = $2
  union all select event from history where actor = $1 and key = $2 limit 1`;

/**
 * Whether an event of this key has been accepted for this actor.
 * @throws Problem if it asked for something else
 */
export async function isRepeated(tx: Transaction, actor: string, key: string, event: ReservationMessage): Promise<boolean> {
  const { rows } = await tx.query<{ event: { type: string } & Record<string, unknown> }>(EVENT_OF_KEY, [actor, key]);
  const earlier = rows[0]?.event;
  if (earlier === undefined) return false;
  if (isSameWish(earlier, event)) return true;
  throw new Problem('GPU_IDEMPOTENCY_CONFLICT', `This key was used for another request (${earlier.type}); that one stands`, {
    field: 'idempotency_key',
  });
}

/** What events ask for, beside their type; who sent them and when is no part of it. */
const WISHES = ['hours', 'githubUsername'] as const;

/** Whether two events ask the same. */
export function isSameWish(a: { type: string }, b: { type: string }): boolean {
  const wish = (event: object) => WISHES.map((field) => (event as Record<string, unknown>)[field]);
  return a.type === b.type && isDeepStrictEqual(wish(a), wish(b));
}
