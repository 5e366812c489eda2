/**
 * What every door does with a request: check it, and turn it into events of actors in one transaction. The queue, HTTP and the CLI behind
 * HTTP all come through here, so there is one request model and one set of rules.
 */
import { randomBytes } from 'node:crypto';
import { v5 as uuidv5, v7 as uuidv7 } from 'uuid';
import type { ReservationMessage } from '../../machines/reservation.events.ts';
import { findActor } from '../../persistence/actor-store.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import type { AllPosted, PostNow } from '../kernel/delivery.ts';
import { Problem } from '../problem.ts';
import { entryOf, entryOfCreate, sendAudit } from './audit-entry.ts';
import { readCatalogue, refuseMaintenance } from './catalogue.ts';
import { momentOf, type ParsedCreate, parseCreate } from './create.ts';
import { acceptDiskOperation } from './disk-operations.ts';
import { refuseElsewhere, resolveDisk, sizeWish } from './disks.ts';
import { checkGang } from './gangs.ts';
import { findReservation } from './lookup.ts';
import { assertSameCreate, fingerprintOf, isRepeated } from './repeated.ts';
import { type Action, actionOf, check, type EventAction, EventMessage, refuseReserved } from './messages.ts';
import { claimOf, takeQuota } from './quota.ts';

/** Namespace of ids derived from a sender's idempotency key. */
const KEYED = '6f0c2d2e-98e7-4c57-9a4e-0c6c4f7d8f51';

/** Where a message came from. */
export interface Sender {
  /** `http` or `queue:<name>`. */
  door: string;
  /** Key of the message if it names none itself; null makes a new one. */
  key: string | null;
  /** Who really sends it, as the door knows them. Left out: whoever the message names; a queue is believed. */
  by?: { user: string; address: string | null; requestId: string | null; keyPrefix: string | null };
  /** Fresh UUIDv7 and secrets; injected in tests. */
  newId?: () => string;
  newToken?: () => string;
}

/** Where the messages go that a door makes: to a kernel, within the door's transaction. */
export interface Post {
  /** @param all given if nothing more is posted; see {@link PostNow} */
  post(messages: readonly Message[], tx: Transaction, all?: AllPosted): Promise<number>;
}

/** The delivery of a kernel as a door's post. */
export function posting(post: PostNow): Post {
  return {
    post: (messages, _tx, all) => {
      post(messages, all);
      return Promise.resolve(messages.length);
    },
  };
}

/** What became of a message at the door. */
export interface Accepted {
  /** Mailbox of the actor and key of the message, by which its outcome can be read. */
  actor: string;
  key: string;
  reservationId: string | null;
  operationId: string | null;
  /** True if the same create was accepted before. */
  duplicate: boolean;
  /** Whose thing it is, if that is known by now. */
  owner?: string | null;
  /** What whoever sent it should know, in words. */
  notice?: string;
  /** Of a new reservation, the type in whose line it may wait, if that is known by now. */
  gpuType?: string;
}

/**
 * Accept any message, within a transaction.
 * @throws Problem if it cannot be understood or is not allowed; nothing is written then.
 */
export async function accept(kernel: Post, tx: Transaction, body: unknown, sender: Sender): Promise<Accepted> {
  const understood = actionOf(body);
  return acceptAction(kernel, tx, understood.action, understood.body, sender);
}

/** Accept a message whose action is known already. */
export async function acceptAction(
  kernel: Post,
  tx: Transaction,
  action: Action,
  body: unknown,
  sender: Sender,
): Promise<Accepted> {
  refuseReserved(body);
  if (action.does === 'create') return acceptCreate(kernel, tx, body, sender);
  const accepted =
    action.does === 'event'
      ? await acceptEvent(kernel, tx, action.action, body, sender)
      : await acceptDiskOperation(kernel, tx, action.action, body, sender);
  if (!accepted.duplicate) sendAudit(tx, [entryOf(action, body, accepted, sender, accepted.owner ?? null)]);
  return accepted;
}

export const CLAIM_ID = 'insert into secrets (secret_ref, owner, value) values ($1, $2, $3) on conflict (secret_ref) do nothing';

export const KEEP_CONTEXT = 'insert into build_contexts (hash, owner, archive) values ($1, $2, $3) on conflict (hash) do nothing';

async function acceptCreate(kernel: Post, tx: Transaction, body: unknown, sender: Sender): Promise<Accepted> {
  const catalogue = await readCatalogue(tx);
  const parsed = parseCreate(body, catalogue);
  const { owner } = parsed;
  const id = await settledId(tx, parsed, sender);
  const accepted: Accepted = {
    actor: `reservation/${id}`,
    key: `create:${id}`,
    reservationId: id,
    operationId: null,
    duplicate: false,
  };
  const duplicate: Accepted = { ...accepted, duplicate: true };
  if (await isTaken(tx, id, parsed)) return duplicate;
  // Whoever only repeats what was accepted before is not refused.
  refuseMaintenance(catalogue.get(parsed.request.gpuType)!, owner);
  // This row claims the id: of two who send one id at the same time, the second waits here for the first.
  const { rowCount: claimed } = await tx.query(CLAIM_ID, [id, owner, secretsOf(parsed, sender)]);
  if (claimed === 0 && (await isTaken(tx, id, parsed))) return duplicate;
  await checkGang(tx, { id, owner, request: parsed.request });
  await takeQuota(tx, [claimOf(id, parsed)]);

  const messages: Message[] = [];
  let diskId: string | null = null;
  if (parsed.disk !== null) {
    const resolved = await resolveDisk(tx, owner, parsed.disk.name, parsed.disk.sizeGb, sender.newId);
    const size = sizeWish({ ...resolved, name: parsed.disk.name }, parsed.askedSizeGb, id);
    messages.push(...resolved.messages, ...size.messages);
    if (size.notice !== null) accepted.notice = size.notice;
    await refuseElsewhere(tx, parsed.request.gpuType, [{ name: parsed.disk.name, place: resolved.place }]);
    diskId = resolved.id;
  }
  if (parsed.build !== null) {
    await tx.query(KEEP_CONTEXT, [parsed.build.hash, owner, parsed.build.archive]);
    if ((await findActor(tx, `image/${parsed.build.hash}`)) === null) {
      const opened = { type: 'image.opened', hash: parsed.build.hash } as { type: string };
      messages.push({ actor: `image/${parsed.build.hash}`, key: 'opened', event: opened, sender: sender.door });
    }
  }
  messages.push(submission(id, parsed, sender, diskId));
  await kernel.post(messages, tx);
  sendAudit(tx, [entryOfCreate(id, parsed, sender)]);
  return accepted;
}

/** The id of a create: its own, one that its key leads to again and again, or a new one. */
export function idOf({ reservationId, owner, key }: ParsedCreate, { newId = uuidv7 }: Sender): string {
  return reservationId ?? (key === null ? newId() : keyedId(owner, key));
}

/** The id to which a key leads by itself. */
function keyedId(owner: string, key: string): string {
  return uuidv5(`${owner}\n${key}`, KEYED);
}

/**
 * Whether a create has both a key and an id that its sender chose, so that the key must be kept with the id. Over HTTP alone: what a queue
 * brings is known by its id.
 */
export function bindsKey({ reservationId, key }: ParsedCreate, { door }: Sender): boolean {
  return door === 'http' && reservationId !== null && key !== null && key.toLowerCase() !== reservationId;
}

/** Before the id of a reservation, in the place of a fingerprint: a key leads to that id. */
const BOUND_TO = 'reservation/';

/**
 * The id of a create, with what is known of its key: one that came with an id leads to that id from then on.
 * @throws Problem if the key leads to another id than the one that the sender chose
 */
async function settledId(tx: Transaction, parsed: ParsedCreate, sender: Sender): Promise<string> {
  const { owner, key, reservationId } = parsed;
  const id = idOf(parsed, sender);
  if (key === null || (reservationId !== null && !bindsKey(parsed, sender))) return id;
  const keyed = keyedId(owner, key);
  const known = async () => {
    const earlier = await earlierOf(tx, keyed);
    if (earlier === null) return null;
    return earlier.fingerprint?.startsWith(BOUND_TO) === true ? earlier.fingerprint.slice(BOUND_TO.length) : keyed;
  };
  let bound = await known();
  if (reservationId === null) return bound ?? id;
  if (bound === null) {
    // Of two who send one key at the same time, the second waits here for the first.
    const { rowCount } = await tx.query(CLAIM_ID, [keyed, owner, JSON.stringify({ fingerprint: `${BOUND_TO}${id}` })]);
    bound = rowCount === 0 ? await known() : id;
  }
  if (bound === id) return id;
  throw new Problem('GPU_IDEMPOTENCY_CONFLICT', `This key was used for another reservation (${bound}); that one stands`, {
    field: 'idempotency_key',
  });
}

/** What is kept apart from a request, as JSON: its environment, a new token for Jupyter, and what a repeated one is compared with. */
export function secretsOf(parsed: ParsedCreate, { newToken }: Sender): string {
  const token = (newToken ?? (() => randomBytes(32).toString('hex')))();
  return JSON.stringify({ environment: parsed.environment, jupyterToken: token, fingerprint: fingerprintOf(parsed) });
}

/** The birth of a reservation. @param diskId of the disk that the request names; null if it wants none. */
export function submission(id: string, parsed: ParsedCreate, sender: Sender, diskId: string | null): Message {
  const { owner, policy, request, name, sentAt } = parsed;
  const disk =
    parsed.disk === null || diskId === null ? null : { id: diskId, name: parsed.disk.name, onBusy: parsed.disk.onBusy };
  const event: ReservationMessage = {
    type: 'reservation.submitted',
    id,
    owner,
    policy,
    request: { ...request, name: name ?? '', disk, secretsRef: id },
  };
  return { actor: `reservation/${id}`, key: `create:${id}`, event, sender: sender.door, sentAt };
}

export const OWNER_OF_ID = `
  select o.owner, (select value->>'fingerprint' from secrets where secret_ref = $1) as fingerprint
    from (select user_id as owner from reservations where reservation_id = $1
          union all select event->>'owner' from mailbox where actor = $2 and event->>'type' = 'reservation.submitted'
          union all select owner from secrets where secret_ref = $1
          limit 1) o`;

/** Who took this id before, and for what; null if nobody did. */
async function earlierOf(tx: Transaction, id: string): Promise<{ owner: string; fingerprint: string | null } | null> {
  const { rows } = await tx.query<{ owner: string; fingerprint: string | null }>(OWNER_OF_ID, [id, `reservation/${id}`]);
  return rows[0] ?? null;
}

/**
 * Whether this id is a reservation of the same owner, in the mailbox or born already.
 * @throws Problem if it is somebody else's, or was asked for with other wishes.
 */
async function isTaken(tx: Transaction, id: string, parsed: ParsedCreate): Promise<boolean> {
  const taken = await earlierOf(tx, id);
  if (taken === null) return false;
  if (taken.owner !== parsed.owner) {
    throw new Problem('GPU_ID_TAKEN', `The id ${id} belongs to a reservation of another user`, { field: 'reservation_id' });
  }
  assertSameCreate(parsed, taken.fingerprint);
  return true;
}

async function acceptEvent(kernel: Post, tx: Transaction, action: EventAction, body: unknown, sender: Sender): Promise<Accepted> {
  const message = check(EventMessage[action], body);
  const user = message.user_id ?? null;
  const found = await findReservation(tx, message.reservation_id, user);
  const event = eventOf(action, message, sender.by?.user ?? user, user);
  const ownKey = message.operation_id ?? message.idempotency_key ?? null;
  const key = ownKey !== null ? `op:${ownKey}` : (sender.key ?? `${sender.door}:${(sender.newId ?? uuidv7)()}`);
  const actor = `reservation/${found.id}`;
  const sentAt = momentOf(message.requested_at ?? message.submitted_at ?? message.created_at);
  const accepted = { actor, key, reservationId: found.id, operationId: null, owner: found.owner };
  if (ownKey !== null && (await isRepeated(tx, actor, key, event))) return { ...accepted, duplicate: true };
  await kernel.post([{ actor, key, event, sender: sender.door, sentAt }], tx);
  return { ...accepted, duplicate: false };
}

/** @param owner as the message names them; if `sentBy` is another, the door has made sure that they may act for the owner */
function eventOf(
  action: EventAction,
  message: Record<string, unknown>,
  sentBy: string | null,
  owner: string | null,
): ReservationMessage {
  const by = sentBy === owner || owner === null ? { by: sentBy } : { by: sentBy, for: owner };
  switch (action) {
    case 'cancel':
      return { type: 'cancel', ...by };
    case 'extend':
      return { type: 'extend', ...by, hours: message['extension_hours'] as number };
    case 'add_user':
      return { type: 'add_user', ...by, githubUsername: message['github_username'] as string };
    case 'remove_user':
      return { type: 'remove_user', ...by, githubUsername: message['github_username'] as string };
    case 'enable_jupyter':
      return { type: 'enable_jupyter', ...by };
    case 'disable_jupyter':
      return { type: 'disable_jupyter', ...by };
  }
}
