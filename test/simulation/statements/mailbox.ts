/** Twins of persistence/mailbox.ts. */
import { DROP_MAIL } from '../../../actors/kernel/set-aside.ts';
import * as mailbox from '../../../persistence/mailbox.ts';
import type { MailboxRow, Tables } from '../store/schema.ts';
import { count, moment, momentOrNow, rows, twin } from '../store/statement.ts';
import type { Slot, Tx } from '../store/tables.ts';

/** Insert a message under a new id. @returns false if its key waits already */
export function insertMail(t: Tables, tx: Tx, mail: Omit<MailboxRow, 'id' | 'version'> & { version?: number }): boolean {
  return t.mailbox.insert({ version: 0, ...mail, id: ++t.lastMailId }, tx);
}

twin(mailbox.ENQUEUE, (t, tx, [actors, keys, events, senders, sentAts, now, versions]) => {
  let added = 0;
  for (const [index, actor] of (actors as string[]).entries()) {
    const owner = t.actors.get(actor, tx);
    const mail = {
      actor,
      key: keys[index],
      event: JSON.parse(events[index]),
      sender: senders[index],
      sentAt: moment(sentAts[index]),
      enqueuedAt: momentOrNow(now, tx),
      held: owner === null || owner.quarantinedAt !== null,
      version: versions[index],
    };
    if (insertMail(t, tx, mail)) added++;
  }
  return count(added);
});

/** Delete a message that is there. */
function remove(t: Tables, tx: Tx, actor: string, id: number): number {
  for (const slot of t.mailbox.group(actor)) {
    if (t.mailbox.see(slot, tx)?.id !== id) continue;
    t.mailbox.lock(slot, tx);
    if (slot.value?.id !== id) return 0;
    t.mailbox.delete(slot, tx);
    return 1;
  }
  return 0;
}

twin(mailbox.REMOVE, (t, tx, [actors, ids]) => {
  let removed = 0;
  for (const [index, id] of (ids as number[]).entries()) removed += remove(t, tx, actors[index], id);
  return count(removed);
});

twin(DROP_MAIL, (t, tx, [actor, id]) => count(remove(t, tx, actor, id)));

twin(mailbox.FIND_PROCESSED, (t, tx, [actors, keys, now]) => {
  const processed = (actors as string[]).flatMap((actor, index) =>
    t.history.get(`${actor}\n${keys[index]}`, tx) !== null ? [index + 1] : [],
  );
  return rows([{ now: new Date(momentOrNow(now, tx)), processed }]);
});

twin(mailbox.RELEASE, (t, tx, [actors]) => {
  const wanted = actors === null ? null : new Set<string>(actors);
  const waiting: { slot: Slot<MailboxRow>; unborn: boolean }[] = [];
  for (const slot of t.mailbox.all()) {
    const mail = t.mailbox.see(slot, tx);
    if (mail === null || !mail.held || (wanted !== null && !wanted.has(mail.actor))) continue;
    const owner = t.actors.get(mail.actor, tx);
    if (owner !== null && owner.quarantinedAt === null) waiting.push({ slot, unborn: owner.status === 'unborn' });
  }
  let freed = 0;
  const moved: MailboxRow[] = [];
  for (const { slot, unborn } of waiting) {
    if (unborn && wanted === null) continue;
    t.mailbox.lock(slot, tx);
    if (slot.value === null) continue;
    if (unborn) {
      moved.push(slot.value);
      t.mailbox.delete(slot, tx);
    } else t.mailbox.update(slot, { ...slot.value, held: false }, tx);
    freed++;
  }
  for (const mail of moved.sort((a, b) => a.id - b.id)) insertMail(t, tx, { ...mail, held: false });
  return rows([{ freed }]);
});

twin(mailbox.TAKE_ORPHANS, (t, tx, [now, seconds]) => {
  const before = momentOrNow(now, tx) - seconds * 1000;
  const found: Slot<MailboxRow>[] = [];
  for (const slot of t.mailbox.all()) {
    const mail = t.mailbox.see(slot, tx);
    if (mail === null || !mail.held || mail.enqueuedAt >= before || !t.mailbox.isFree(slot, tx)) continue;
    const owner = t.actors.get(mail.actor, tx);
    if (owner !== null && owner.status !== 'unborn') continue;
    const birth = [...t.mailbox.group(mail.actor)].some((other) => t.mailbox.see(other, tx)?.held === false);
    if (!birth) found.push(slot);
  }
  const taken = found.sort((a, b) => a.value!.id - b.value!.id).slice(0, 100);
  return rows(
    taken.map((slot) => {
      const { actor, key, event, sender } = slot.value!;
      t.mailbox.delete(slot, tx);
      return { actor, key, event, sender };
    }),
  );
});
