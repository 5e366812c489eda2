/** Twins of persistence/actor-store.ts. */
import * as store from '../../../persistence/actor-store.ts';
import type { ActorRow, MailboxRow, Tables } from '../store/schema.ts';
import { count, dateOf, moment, momentOrNow, rows, twin } from '../store/statement.ts';
import { SqlError, type Slot, type Tx } from '../store/tables.ts';

/** The newest version of each kind that the caller understands. */
function knownOf(kinds: readonly string[], versions: readonly number[]): (row: ActorRow, version?: number) => boolean {
  return (row, version = 0) =>
    kinds.some((kind, index) => kind === row.kind && Math.max(row.version, version) <= versions[index]!);
}

function lockedRow(row: ActorRow) {
  return {
    actor: row.actor,
    kind: row.kind,
    machineVersion: row.version,
    seq: row.seq,
    status: row.status,
    snapshot: row.snapshot,
  };
}

/** Lock the actors of the first of these messages, as far as they are free. */
function lockHeads(
  t: Tables,
  tx: Tx,
  mail: MailboxRow[],
  limit: number,
  actors: number,
  now: unknown,
  wanted: (row: ActorRow, head: MailboxRow) => boolean,
) {
  const seen = new Set<string>();
  const found = [];
  for (const head of mail.sort((a, b) => a.id - b.id).slice(0, limit)) {
    const { actor } = head;
    if (seen.has(actor)) continue;
    seen.add(actor);
    const slot = t.actors.slot(actor);
    const row = slot === undefined ? null : t.actors.see(slot, tx);
    if (slot === undefined || row === null || !wanted(row, head)) continue;
    if (found.length >= actors || !t.actors.isFree(slot, tx)) continue;
    t.actors.lock(slot, tx);
    found.push({ ...lockedRow(slot.value!), now: new Date(momentOrNow(now, tx)) });
  }
  return rows(found);
}

/** The store heeds it: see MemoryStore. */
twin(store.WAIT_BRIEFLY, () => rows([]));

twin(store.LOCK_OLDEST, (t, tx, [limit, actors, kinds, versions, now, except]) => {
  const known = knownOf(kinds, versions);
  const oldest = [...t.mailbox.rows(tx)].filter((mail) => !mail.held && !except.includes(mail.actor));
  return lockHeads(t, tx, oldest, limit, actors, now, (row, { version }) => row.quarantinedAt === null && known(row, version));
});

const byId = (a: MailboxRow, b: MailboxRow) => a.id - b.id;

twin(store.LOCK_READY, (t, tx, [limit, actors, kinds, versions, now, except]) => {
  const known = knownOf(kinds, versions);
  const ready = [...t.mailbox.rows(tx)].filter((mail) => {
    if (mail.held || except.includes(mail.actor)) return false;
    const owner = t.actors.get(mail.actor, tx);
    if (owner === null || owner.quarantinedAt !== null) return false;
    return [...t.mailbox.rows(tx)].every((each) => each.actor !== mail.actor || each.id > mail.id || known(owner, each.version));
  });
  return lockHeads(t, tx, ready, limit, actors, now, () => true);
});

twin(store.LOCK_ONE, (t, tx, [actor, now, kinds, versions]) => {
  const slot = t.actors.slot(actor);
  const row = slot === undefined ? null : t.actors.see(slot, tx);
  if (slot === undefined || row === null || row.quarantinedAt !== null || !knownOf(kinds, versions)(row)) return rows([]);
  if (!t.actors.isFree(slot, tx)) return rows([]);
  t.actors.lock(slot, tx);
  return rows([{ ...lockedRow(row), now: new Date(momentOrNow(now, tx)) }]);
});

twin(store.LOCK_THESE, (t, tx, [actors, kinds, versions]) => {
  const known = knownOf(kinds, versions);
  const found = [];
  for (const actor of [...new Set<string>(actors)].sort()) {
    const slot = t.actors.slot(actor);
    const row = slot === undefined ? null : t.actors.see(slot, tx);
    if (slot === undefined || row === null || row.quarantinedAt !== null || row.status === 'unborn' || !known(row)) continue;
    if (!t.actors.isFree(slot, tx)) continue;
    t.actors.lock(slot, tx);
    found.push(lockedRow(row));
  }
  return rows(found);
});

function mailOf(t: Tables, tx: Tx, actor: string, wanted: (mail: MailboxRow) => boolean, limit: number): MailboxRow[] {
  const found: MailboxRow[] = [];
  for (const slot of t.mailbox.group(actor)) {
    const mail = t.mailbox.see(slot, tx);
    if (mail !== null && wanted(mail)) found.push(mail);
  }
  return found.sort(byId).slice(0, limit);
}

function waitingRow(t: Tables, tx: Tx, mail: MailboxRow) {
  const { id, actor, key, event, sender, version } = mail;
  let firedSeq: number | null = null;
  if (sender === 'deadline') {
    const deadline = t.deadlines.get(`${actor}\n${event.type.slice('deadline.'.length)}`, tx);
    if (deadline !== null && deadline.firedAt !== null) firedSeq = deadline.setSeq;
  }
  const processed = t.history.get(`${actor}\n${key}`, tx) !== null;
  return { id, actor, key, event, sender, sentAt: dateOf(mail.sentAt), version, processed, firedSeq };
}

twin(store.READ_MAIL, (t, tx, [actors, born, perActor]) => {
  const found: MailboxRow[] = [];
  for (const [index, actor] of (actors as string[]).entries()) {
    const isBorn = born[index] as boolean;
    found.push(...mailOf(t, tx, actor, (mail) => isBorn || !mail.held, isBorn ? perActor : 1));
  }
  return rows(found.sort(byId).map((mail) => waitingRow(t, tx, mail)));
});

twin(store.READ_MORE_MAIL, (t, tx, [actors, read, perActor]) => {
  const known = new Set<number>(read);
  const found = (actors as string[]).flatMap((actor) => mailOf(t, tx, actor, (mail) => !known.has(mail.id), perActor));
  return rows(found.sort(byId).map((mail) => waitingRow(t, tx, mail)));
});

twin(store.UPDATE_ACTORS, (t, tx, [actors, seqs, versions, statuses, states, snapshots, now]) => {
  let updated = 0;
  for (const [index, actor] of (actors as string[]).entries()) {
    const slot: Slot<ActorRow> | undefined = t.actors.slot(actor);
    if (slot === undefined || t.actors.see(slot, tx) === null) continue;
    t.actors.lock(slot, tx);
    const old = slot.value!;
    const text = snapshots[index] as string | null;
    const next: ActorRow = {
      ...old,
      seq: seqs[index],
      version: versions[index],
      status: statuses[index],
      state: states[index],
      snapshot: text === null ? old.snapshot : JSON.parse(text),
      bornAt: old.bornAt ?? (statuses[index] === 'unborn' ? null : moment(now)),
      updatedAt: moment(now)!,
    };
    if (old.status === 'done' && (next.status !== 'done' || next.state !== old.state || changed(old, next))) {
      throw new SqlError('GD001', `actor ${actor} has ended (${old.state}) and cannot change`);
    }
    if ((next.status === 'unborn') !== (next.snapshot === null)) throw new SqlError('23514', `actors_check: ${actor}`);
    t.actors.update(slot, next, tx);
    updated++;
  }
  return count(updated);
});

function changed(old: ActorRow, next: ActorRow): boolean {
  return old.snapshot !== next.snapshot && JSON.stringify(old.snapshot) !== JSON.stringify(next.snapshot);
}

twin(store.OPEN_ACTORS, (t, tx, [actors, kinds, versions]) => {
  const opened: { actor: string }[] = [];
  for (const [index, actor] of (actors as string[]).entries()) {
    const row: ActorRow = {
      actor,
      kind: kinds[index],
      version: versions[index],
      seq: 0,
      status: 'unborn',
      state: null,
      snapshot: null,
      bornAt: null,
      updatedAt: tx.now,
      quarantinedAt: null,
      quarantineReason: null,
    };
    if (t.actors.insert(row, tx)) opened.push({ actor });
  }
  return rows(opened);
});

twin(store.FIND_ACTOR, (t, tx, [actor]) => {
  const row = t.actors.get(actor, tx);
  return rows(row === null ? [] : [{ ...lockedRow(row), state: row.state, quarantineReason: row.quarantineReason }]);
});

twin(store.QUARANTINE, (t, tx, [actor, reason]) => {
  const slot = t.actors.slot(actor);
  const row = slot === undefined ? null : t.actors.see(slot, tx);
  if (slot === undefined || row === null || row.quarantinedAt !== null) return count(0);
  t.actors.lock(slot, tx);
  t.actors.update(slot, { ...slot.value!, quarantinedAt: tx.now, quarantineReason: reason }, tx);
  let held = 0;
  for (const mail of t.mailbox.group(actor)) {
    if (t.mailbox.see(mail, tx) === null) continue;
    t.mailbox.lock(mail, tx);
    t.mailbox.update(mail, { ...mail.value!, held: true }, tx);
    held++;
  }
  return count(held);
});
