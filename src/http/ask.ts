/** What is asked of a reservation, as every path over HTTP asks it: through the door, and decided when the answer comes. */
import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { v7 as uuidv7 } from 'uuid';
import { acceptAction, type Post, posting } from '../../actors/intake/doors.ts';
import type { EventAction } from '../../actors/intake/messages.ts';
import { isSameWish } from '../../actors/intake/repeated.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { HistoryEntry } from '../../persistence/history.ts';
import { findDeadLetter } from '../../persistence/insight.ts';
import { Problem } from '../errors.ts';
import type { HttpDeps } from './deps.ts';
import { extensionAfter } from './extension.ts';
import type { ReservationReader } from './reader.ts';
import { senderOf } from './user.ts';
import { until } from './waiting.ts';

/** How long the answer may wait for the turn. */
const TURN_MS = 2_000;

/** An event for a reservation that the sender may change. */
export interface Asked {
  id: string;
  owner: string;
  type: EventAction;
  fields: Record<string, unknown>;
  /** By which a repeated one is known; null makes it one of its own. */
  key: string | null;
}

/** Where the decision of what was asked will stand. */
export interface Accepted {
  actor: string;
  key: string;
}

/**
 * Ask it, and wait a while for the decision.
 * @returns false if it is accepted and not decided yet
 * @throws Problem if it is not taken, or an extension is refused
 */
export async function ask(deps: HttpDeps, reader: ReservationReader, request: FastifyRequest, asked: Asked): Promise<boolean> {
  // One name for all tries: the first may have come through.
  const name = `http:${uuidv7()}`;
  const accepted = await deps.kernel.deliver((tx, post) => accept(request, tx, posting(post), asked, name));
  return decisionOf(deps, reader, asked, accepted);
}

/** Ask it in a transaction. @param name by which it is known if it has no key */
export async function accept(
  request: FastifyRequest,
  tx: Transaction,
  post: Post,
  { id, owner, type, fields, key }: Asked,
  name: string,
): Promise<Accepted> {
  const by = senderOf(request);
  const message = {
    ...fields,
    reservation_id: id,
    user_id: owner,
    ...(key === null ? {} : { idempotency_key: ownKey(key, by.user, owner) }),
  };
  const { actor, key: known } = await acceptAction(post, tx, { does: 'event', action: type }, message, {
    door: 'http',
    key: name,
    by,
  });
  return { actor, key: known };
}

/** Keys belong to their users, and those of a reservation's events to its owner: whoever else may change it has keys of their own. */
function ownKey(key: string, user: string, owner: string): string {
  return user === owner ? key : createHash('sha256').update(`${user}\n${key}`).digest('hex');
}

/**
 * Wait a while for the decision of what was accepted.
 * @returns false if it is not decided yet
 * @throws Problem if it is not taken, or an extension is refused
 */
export async function decisionOf(
  { db, kernel }: HttpDeps,
  reader: ReservationReader,
  { id, type, fields, key }: Asked,
  accepted: Accepted,
): Promise<boolean> {
  const end = performance.now() + TURN_MS;
  const entry = await until(TURN_MS, () => kernel.outcome(accepted.actor, accepted.key));
  if (entry === null) {
    const letter = await findDeadLetter(db, accepted.actor, accepted.key);
    if (letter !== null) throw new Problem('GPU_MESSAGE_FAILED', letter.reason);
    return false;
  }
  // Of two that came at the same time under one key, one was taken.
  const wish = { type, hours: fields['extension_hours'], githubUsername: fields['github_username'] };
  if (key !== null && !isSameWish(entry.event, wish)) {
    throw new Problem(
      'GPU_IDEMPOTENCY_CONFLICT',
      `This key was used for another request (${entry.event.type}); that one stands`,
      {
        field: 'idempotency_key',
      },
    );
  }
  await throwIfNotApplied(reader, id, type, entry);
  if (type !== 'extend') return true;
  const decided = await until(Math.max(0, end - performance.now()), () => extensionAfter(db, accepted.actor, entry));
  if (decided?.granted === false)
    throw new Problem('GPU_EXTENSION_REFUSED', decided.reason, { details: await present(reader, id) });
  return decided !== null;
}

async function throwIfNotApplied(reader: ReservationReader, id: string, type: string, entry: HistoryEntry): Promise<void> {
  if (entry.outcome === 'refused') throw new Problem('GPU_NOT_OWNER', entry.reason ?? 'The reservation belongs to another user');
  if (entry.outcome !== 'ignored') return;
  const details = await present(reader, id);
  throw new Problem('GPU_EVENT_IGNORED', whyIgnored(type, entry.from ?? details.state, details.accepts), {
    field: 'type',
    details: { ...details, state_met: entry.from },
  });
}

function whyIgnored(type: string, state: string, accepts: readonly string[]): string {
  if (accepts.includes(type)) return `The ${type} would change nothing: it is so already, or on its way`;
  const instead = accepts.length === 0 ? 'nothing any more' : accepts.join(', ');
  return `A reservation that is ${state} does not take ${type} now; it takes ${instead}`;
}

async function present(reader: ReservationReader, id: string) {
  const { state, substate, accepts, expires_at } = await reader.mustView(id);
  return { state, substate, accepts, expires_at };
}
