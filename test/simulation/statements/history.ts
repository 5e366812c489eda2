/** Twins of persistence/history.ts. */
import * as history from '../../../persistence/history.ts';
import type { HistoryRow } from '../store/schema.ts';
import { count, dateOf, moment, rows, twin } from '../store/statement.ts';
import { SqlError } from '../store/tables.ts';

twin(history.APPEND, (t, tx, v) => {
  const [actors, seqs, keys, events, outcomes, reasons, froms, tos, leaves, versions, senders, sentAts, at] = v;
  for (const [index, actor] of (actors as string[]).entries()) {
    const row: HistoryRow = {
      actor,
      seq: seqs[index],
      key: keys[index],
      event: JSON.parse(events[index]),
      outcome: outcomes[index],
      reason: reasons[index],
      from: froms[index],
      to: tos[index],
      leaf: leaves[index],
      machineVersion: versions[index],
      sender: senders[index],
      sentAt: moment(sentAts[index]),
      at: moment(at)!,
    };
    if (!t.history.insert(row, tx)) throw new SqlError('23505', `duplicate key in history: ${actor} ${row.seq} ${row.key}`);
  }
  return count(actors.length);
});

function entryOf(row: HistoryRow) {
  const { actor, seq, key, event, outcome, reason, from, to, leaf, machineVersion, sender } = row;
  return { actor, seq, key, event, outcome, reason, from, to, leaf, machineVersion, sender, sentAt: dateOf(row.sentAt) };
}

twin(history.FIND_BY_KEY, (t, tx, [actor, key]) => {
  const row = t.history.get(`${actor}\n${key}`, tx);
  return rows(row === null ? [] : [entryOf(row)]);
});

twin(history.READ_HISTORY, (t, tx, [actor, after, limit]) => {
  const found: HistoryRow[] = [];
  for (const slot of t.history.group(actor)) {
    const row = t.history.see(slot, tx);
    if (row !== null && row.seq > after) found.push(row);
  }
  return rows(
    found
      .sort((a, b) => a.seq - b.seq)
      .slice(0, limit)
      .map(entryOf),
  );
});

twin(history.LATEST_CHECKPOINT, (t, tx, [actor]) => {
  const found = [...t.checkpoints.rows(tx)].filter((row) => row.actor === actor).sort((a, b) => b.seq - a.seq)[0];
  if (found === undefined) return rows([]);
  const { seq, machineVersion, snapshot } = found;
  return rows([{ seq, machineVersion, snapshot }]);
});

twin(history.ADD_CHECKPOINT, (t, tx, [actor, seq, machineVersion, snapshot, reason]) => {
  const row = { actor, seq, machineVersion, snapshot: JSON.parse(snapshot), reason };
  if (!t.checkpoints.insert(row, tx)) t.checkpoints.update(t.checkpoints.slot(`${actor}\n${seq}`)!, row, tx);
  return count(1);
});
