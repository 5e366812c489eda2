/** Requests that are sent again: the key by which they are known, and the answer that they get again. */
import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Database, Queryable, Transaction } from '../../persistence/database.ts';
import { Problem } from '../errors.ts';
import { principalOf } from './access.ts';

const LONGEST = 200;

/** The field of a body that may stand for the header. */
export const Key = z.string().min(1).max(LONGEST).nullish();

/**
 * The header Idempotency-Key, or the field of the body; null if there is neither.
 * @param operationId another field that is a key, as messages of queues name it: without a header it goes first there
 * @throws Problem if the header is no key, or a field differs from it
 */
export function idempotencyKey(request: FastifyRequest, inBody?: string | null, operationId?: string | null): string | null {
  const header = request.headers['idempotency-key']?.toString();
  const field = 'idempotency_key';
  if (header !== undefined && (header === '' || header.length > LONGEST)) {
    throw new Problem('GPU_FIELD_INVALID', `The header Idempotency-Key must be 1 to ${LONGEST} characters`, { field });
  }
  if (header !== undefined) refuseOthers(header, { [field]: inBody, operation_id: operationId });
  return header ?? operationId ?? inBody ?? null;
}

function refuseOthers(header: string, inBody: Record<string, string | null | undefined>): void {
  for (const [field, key] of Object.entries(inBody)) {
    if (key == null || key === header) continue;
    throw new Problem('GPU_FIELD_INVALID', `The field ${field} and the header Idempotency-Key differ`, { field });
  }
}

/** A field of a body that nobody has checked yet, if it is a text. */
export function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

/** By what a body is compared with that of a request sent before under the same key. */
export function wishOf(body: object): string {
  return createHash('sha256').update(JSON.stringify(body)).digest('hex').slice(0, 16);
}

const TAKE_KEY = `
  insert into answered_requests (user_name, key, request) values ($1, $2, $3) on conflict (user_name, key) do nothing`;
const KEEP_ANSWER = 'update answered_requests set answer = $3 where user_name = $1 and key = $2';
const FIND_ANSWER = 'select request, answer from answered_requests where user_name = $1 and key = $2';

/**
 * Act in one transaction, once for each key of the one who asks: sent again, the request gets the answer of the first time.
 * @throws Problem if the key was used for another request, or what the act throws; nothing is written then.
 */
export function actOnce<T extends object>(
  db: Database,
  request: FastifyRequest,
  act: (tx: Transaction) => Promise<T>,
): Promise<T> {
  return db.withTransaction((tx) => actOnceWithin(tx, request, pathOf(request), () => act(tx)));
}

/**
 * The same in a transaction that is open.
 * @param object what is acted on, by its whole name: a path may hold the beginning of an id, which means another object on another day
 */
export async function actOnceWithin<T extends object>(
  tx: Transaction,
  request: FastifyRequest,
  object: string,
  act: () => Promise<T>,
): Promise<T> {
  const asked = askedBy(request, object);
  if (asked === null) return act();
  const { user, key, name } = asked;
  if ((await tx.query(TAKE_KEY, [user, key, name])).rowCount === 0) return (await answerTo<T>(tx, asked))!;
  const answer = await act();
  await tx.query(KEEP_ANSWER, [user, key, JSON.stringify(answer)]);
  return answer;
}

/**
 * What {@link actOnce} answered to this request before, for those who must find out something outside of a transaction first.
 * @returns null if it is new, or bears no key
 * @throws Problem if its key was used for another request
 */
export async function earlierAnswer<T extends object>(db: Queryable, request: FastifyRequest): Promise<T | null> {
  const asked = askedBy(request, pathOf(request));
  return asked === null ? null : answerTo<T>(db, asked);
}

/** A request that bears a key, by what it wishes. */
interface KeyedRequest {
  user: string;
  key: string;
  name: string;
}

async function answerTo<T extends object>(db: Queryable, { user, key, name }: KeyedRequest): Promise<T | null> {
  const { rows } = await db.query<{ request: string; answer: T }>(FIND_ANSWER, [user, key]);
  const found = rows[0];
  if (found === undefined || found.request === name) return found?.answer ?? null;
  throw new Problem('GPU_IDEMPOTENCY_CONFLICT', 'This key was used for another request', { field: 'idempotency_key' });
}

function askedBy(request: FastifyRequest, object: string): KeyedRequest | null {
  const { idempotency_key: inBody, ...body } = (request.body ?? {}) as { idempotency_key?: string | null };
  const key = idempotencyKey(request, inBody);
  if (key === null) return null;
  return { user: principalOf(request).user, key, name: `${request.method} ${object} ${wishOf(body)}` };
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0]!;
}
