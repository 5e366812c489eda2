/** Twins of persistence/deadlines.ts. */
import * as deadlines from '../../../persistence/deadlines.ts';
import type { DeadlineRow } from '../store/schema.ts';
import { count, moment, momentOrNow, rows, twin } from '../store/statement.ts';
import type { Slot } from '../store/tables.ts';
import { insertMail } from './mailbox.ts';

twin(deadlines.SET, (t, tx, [actors, names, dueAts, seqs]) => {
  for (const [index, actor] of (actors as string[]).entries()) {
    const row = { actor, name: names[index], dueAt: moment(dueAts[index])!, setSeq: seqs[index], firedAt: null };
    if (!t.deadlines.insert(row, tx)) t.deadlines.update(t.deadlines.slot(`${actor}\n${row.name}`)!, row, tx);
  }
  return count(actors.length);
});

twin(deadlines.CLEAR, (t, tx, [actors, names]) => {
  let cleared = 0;
  for (const [index, actor] of (actors as string[]).entries()) {
    const slot = t.deadlines.slot(`${actor}\n${names[index]}`);
    if (slot === undefined || t.deadlines.see(slot, tx) === null) continue;
    t.deadlines.delete(slot, tx);
    cleared++;
  }
  return count(cleared);
});

twin(deadlines.CLEAR_OF, (t, tx, [actors]) => {
  let cleared = 0;
  for (const actor of actors as string[]) {
    for (const slot of t.deadlines.group(actor)) {
      if (t.deadlines.see(slot, tx) === null) continue;
      t.deadlines.delete(slot, tx);
      cleared++;
    }
  }
  return count(cleared);
});

twin(deadlines.REARM, (t, tx, [actor, name, seconds, now]) => {
  const slot = t.deadlines.slot(`${actor}\n${name}`);
  if (slot === undefined || (t.deadlines.see(slot, tx)?.firedAt ?? null) === null) return count(0);
  t.deadlines.lock(slot, tx);
  if ((slot.value?.firedAt ?? null) === null) return count(0);
  t.deadlines.update(slot, { ...slot.value!, firedAt: null, dueAt: momentOrNow(now, tx) + seconds * 1000 }, tx);
  return count(1);
});

twin(deadlines.FIRE, (t, tx, [now, limit]) => {
  const at = momentOrNow(now, tx);
  const due: Slot<DeadlineRow>[] = [];
  for (const slot of t.deadlines.all()) {
    const row = t.deadlines.see(slot, tx);
    if (row !== null && row.firedAt === null && row.dueAt <= at && t.deadlines.isFree(slot, tx)) due.push(slot);
  }
  const byTime = (a: Slot<DeadlineRow>, b: Slot<DeadlineRow>) =>
    a.value!.dueAt - b.value!.dueAt || (a.value!.name < b.value!.name ? -1 : 1);
  const fired: { actor: string }[] = [];
  for (const slot of due.sort(byTime).slice(0, limit)) {
    const { actor, name, setSeq, dueAt } = slot.value!;
    t.deadlines.update(slot, { ...slot.value!, firedAt: at }, tx);
    const owner = t.actors.get(actor, tx);
    const posted = insertMail(t, tx, {
      actor,
      key: `deadline:${name}:${setSeq}`,
      event: { type: `deadline.${name}` },
      sender: 'deadline',
      sentAt: dueAt,
      enqueuedAt: at,
      held: owner === null || owner.quarantinedAt !== null,
    });
    if (posted) fired.push({ actor });
  }
  return rows(fired);
});

twin(deadlines.UNTIL_NEXT, (t, tx, [now]) => {
  let next: number | null = null;
  for (const row of t.deadlines.rows(tx)) if (row.firedAt === null && (next === null || row.dueAt < next)) next = row.dueAt;
  return rows([{ ms: next === null ? null : (next - momentOrNow(now, tx)).toFixed(6) }]);
});
