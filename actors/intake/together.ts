/**
 * Many messages in one transaction, in their order, with one set of statements for neighbours that create. It is the swift way of the queues'
 * door: it serves what is as it should be. Anything else fails the whole transaction, and the door goes through the messages one by one.
 */
import { v7 as uuidv7 } from 'uuid';
import type { VolumePlace } from '../../machines/disk.events.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { isFixed } from '../gpu-pool/places.ts';
import { entryOfCreate, sendAudit } from './audit-entry.ts';
import type { Catalogue } from './catalogue.ts';
import { type ParsedCreate, parseCreate } from './create.ts';
import { type DiskWish, refuseElsewhere, resolveDisks, sizeWish } from './disks.ts';
import { acceptAction, bindsKey, idOf, type Post, type Sender, secretsOf, submission } from './doors.ts';
import { actionOf, refuseReserved } from './messages.ts';
import { claimOf, takeQuota } from './quota.ts';

/** A message, and by whom it came. */
export interface Delivery {
  body: unknown;
  sender: Sender;
}

/** These messages do not all go the swift way. */
export class NotTogether extends Error {
  override readonly name = 'NotTogether';
}

/** A create that is neither of a gang nor with an image to build nor with a key beside its id, with that id. */
export interface Plain {
  id: string;
  parsed: ParsedCreate;
  sender: Sender;
}

/**
 * Accept all of them, in order.
 * @throws Problem, NotTogether, or the database's error; the transaction must be rolled back then.
 */
export async function acceptTogether(
  door: Post,
  tx: Transaction,
  deliveries: readonly Delivery[],
  catalogue: Catalogue,
): Promise<void> {
  const kernel = onceOnly(door);
  const gangs = new Set<string>();
  let plain = new Map<string, Plain>();
  const settle = async () => {
    const creates = [...plain.values()];
    plain = new Map();
    if (creates.length > 0) await acceptCreates(kernel, tx, creates, { areAll: creates.length === deliveries.length });
  };
  for (const { body, sender } of deliveries) {
    const understood = actionOf(body);
    refuseReserved(body);
    if (understood.action.does === 'create') {
      const create = plainOf(understood.body, sender, catalogue);
      if (create !== null) {
        if (plain.has(create.id)) throw new NotTogether('an id was sent twice');
        plain.set(create.id, create);
        continue;
      }
      refuseSecond(gangs, (understood.body as { master_reservation_id?: unknown }).master_reservation_id);
    }
    await settle();
    await acceptAction(kernel, tx, understood.action, understood.body, sender);
  }
  await settle();
}

/** What was sent a moment ago is in no mailbox yet, where a repeated key would be found: so one that comes twice is not for all together. */
function onceOnly(door: Post): Post {
  const sent = new Set<string>();
  return {
    post: (messages, tx, all) => {
      for (const { actor, key } of messages) {
        if (sent.has(`${actor}\n${key}`)) throw new NotTogether('a key was used twice');
        sent.add(`${actor}\n${key}`);
      }
      return door.post(messages, tx, all);
    },
  };
}

/** Nor would a member of a gang find those that came a moment before it. */
function refuseSecond(gangs: Set<string>, gang: unknown): void {
  if (typeof gang !== 'string') return;
  const id = gang.toLowerCase();
  if (gangs.has(id)) throw new NotTogether('two of one gang');
  gangs.add(id);
}

/**
 * A create that may share its statements with others; null if it may not.
 * @throws Problem if it cannot be understood; NotTogether if more must be known of it
 */
export function plainOf(body: unknown, sender: Sender, catalogue: Catalogue): Plain | null {
  const parsed = parseCreate(body, catalogue);
  // The catalogue was read some time ago, and maintenance begins and ends by the clock.
  if (catalogue.get(parsed.request.gpuType)?.maintenance) throw new NotTogether('a type is under maintenance');
  const isPlain = parsed.request.gang === null && parsed.build === null && !bindsKey(parsed, sender);
  return isPlain ? { id: idOf(parsed, sender), parsed, sender } : null;
}

// These rows claim the ids: of two who send one id at the same time, the second waits here for the first.
export const CLAIM_IDS = `
  with asked as (
    select * from unnest($1::text[], $2::text[], $3::text[]) as a(id, owner, value)),
  claimed as (
    insert into secrets (secret_ref, owner, value) select id, owner, value::jsonb from asked on conflict (secret_ref) do nothing returning 1)
  select (select count(*) from claimed)::int as claimed,
         (select count(*) from asked a join reservations r on r.reservation_id = a.id)::int
         + (select count(*) from asked a join mailbox m on m.actor = 'reservation/' || a.id and m.event->>'type' = 'reservation.submitted')::int as taken`;

/**
 * Accept creates of different ids.
 * @param areAll whether the transaction is for nothing else
 * @param held fails if the locks of their owners, asked for before, are not all held, and resolves otherwise; left out: they are waited for
 * @returns what those who sent them should know, by id
 * @throws NotTogether if an id or a disk is not free, Problem if a quota does not suffice, or the database's error
 */
export async function acceptCreates(
  kernel: Post,
  tx: Transaction,
  creates: readonly Plain[],
  { areAll, held }: { areAll: boolean; held?: Promise<void> },
): Promise<Map<string, string>> {
  const wishes = creates.flatMap(({ parsed: { owner, disk }, sender }): DiskWish[] =>
    disk === null ? [] : [{ id: (sender.newId ?? uuidv7)(), owner, name: disk.name, sizeGb: disk.sizeGb }],
  );
  // In the order in which one alone takes them: its user, then its disk.
  const claims = Promise.all([
    tx.query<{ claimed: number; taken: number }>(CLAIM_IDS, [
      creates.map(({ id }) => id),
      creates.map(({ parsed }) => parsed.owner),
      creates.map(({ parsed, sender }) => secretsOf(parsed, sender)),
    ]),
    takeQuota(
      tx,
      creates.map(({ id, parsed }) => claimOf(id, parsed)),
      held !== undefined,
    ),
    resolveDisks(tx, wishes),
    held,
  ]);
  claims.catch(() => {}); // told by what waits for them
  const pools = [...new Set(creates.map(({ parsed }) => `gpu-pool/${parsed.request.gpuType}`))];
  const post = (messages: readonly Message[], others: readonly string[] = []) =>
    areAll ? kernel.post(messages, tx, { expected: [...others, ...pools] }) : kernel.post(messages, tx);
  const audit = creates.map(({ id, parsed, sender }) => entryOfCreate(id, parsed, sender));
  // Without a disk all that is to be posted is known, and its receivers are asked for in the same breath.
  if (wishes.length === 0) {
    await post(creates.map(({ id, parsed, sender }) => submission(id, parsed, sender, null)));
    sendAudit(tx, audit);
  }
  const [{ rows }, , disks] = await claims;
  if (rows[0]!.claimed !== creates.length || rows[0]!.taken !== 0) throw new NotTogether('an id is taken');
  if (wishes.length === 0) return new Map();
  const messages: Message[] = [...disks.messages];
  /** Disks whose volumes few nodes can use, by the type that is to have them. */
  const fixed = new Map<string, { name: string; place: VolumePlace | null }[]>();
  const notices = new Map<string, string>();
  const used: string[] = [];
  for (const { id, parsed, sender } of creates) {
    const disk = parsed.disk === null ? null : disks.find(parsed.owner, parsed.disk.name);
    if (disk === undefined) throw new NotTogether('a disk is not there to be used');
    const { gpuType } = parsed.request;
    if (disk !== null && isFixed(disk.place))
      fixed.set(gpuType, [...(fixed.get(gpuType) ?? []), { name: parsed.disk!.name, place: disk.place }]);
    if (disk !== null) {
      const size = sizeWish({ ...disk, name: parsed.disk!.name }, parsed.askedSizeGb, id);
      messages.push(...size.messages);
      if (size.notice !== null) notices.set(id, size.notice);
      used.push(`disk/${disk.id}`);
    }
    messages.push(submission(id, parsed, sender, disk?.id ?? null));
  }
  for (const [gpuType, those] of fixed) await refuseElsewhere(tx, gpuType, those);
  await post(messages, used);
  sendAudit(tx, audit);
  return notices;
}
