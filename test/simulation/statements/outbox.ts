/** Twins of persistence/outbox.ts. */
import * as outbox from '../../../persistence/outbox.ts';
import type { EffectRow, Tables } from '../store/schema.ts';
import { count, moment, momentOrNow, rows, twin } from '../store/statement.ts';
import { SqlError, type Slot, type Tx } from '../store/tables.ts';

type Place = { seq: number; index: number };

function isBefore(a: Place, b: Place): boolean {
  return a.seq < b.seq || (a.seq === b.seq && a.index < b.index);
}

/** Effects of an actor's lane, as the transaction sees them. */
function* laneOf(t: Tables, tx: Tx | null, actor: string, lane: string): Generator<Slot<EffectRow>> {
  for (const slot of t.effects.group(actor)) if (t.effects.see(slot, tx)?.lane === lane) yield slot;
}

twin(outbox.SUPERSEDE, (t, tx, [actors, lanes, seqs, indexes, now]) => {
  const at = moment(now)!;
  let superseded = 0;
  const waits = (row: EffectRow) => row.status === 'pending' && (row.leaseUntil === null || row.leaseUntil < at);
  for (const [place, actor] of (actors as string[]).entries()) {
    for (const slot of laneOf(t, tx, actor, lanes[place])) {
      const row = t.effects.see(slot, tx)!;
      if (!isBefore(row, { seq: seqs[place], index: indexes[place] }) || !waits(row)) continue;
      t.effects.lock(slot, tx);
      if (slot.value === null || !waits(slot.value)) continue;
      t.effects.update(slot, { ...slot.value, status: 'superseded', endedAt: at, leaseToken: null }, tx);
      superseded++;
    }
  }
  return count(superseded);
});

twin(outbox.ADD, (t, tx, v) => {
  const [ids, actors, seqs, indexes, types, lanes, replaces, params, statuses, wanted, now, token, seconds] = v;
  const at = moment(now)!;
  const added: EffectRow[] = [];
  // What the statement itself adds is not seen by it: leases are given by what was there before.
  const given = (ids as string[]).map(
    (_, index) =>
      wanted[index] === true &&
      ![...laneOf(t, tx, actors[index], lanes[index])].some((slot) => t.effects.see(slot, tx)!.status === 'pending'),
  );
  for (const [index, effectId] of (ids as string[]).entries()) {
    const row: EffectRow = {
      effectId,
      actor: actors[index],
      seq: seqs[index],
      index: indexes[index],
      type: types[index],
      lane: lanes[index],
      replaces: replaces[index],
      params: JSON.parse(params[index]),
      status: statuses[index],
      attempts: 0,
      takeovers: 0,
      nextAt: at,
      leaseToken: given[index] ? token : null,
      leaseUntil: given[index] ? at + seconds * 1000 : null,
      lastError: null,
      createdAt: at,
      endedAt: statuses[index] === 'superseded' ? at : null,
    };
    if (!t.effects.insert(row, tx)) throw new SqlError('23505', `duplicate key in effects: ${effectId}`);
    added.push(row);
  }
  return rows(added.map(({ effectId, leaseToken }) => ({ effectId, leased: leaseToken !== null })));
});

/** Whether a later effect of its lane replaces it. */
export function isReplaced(t: Tables, tx: Tx | null, row: EffectRow): boolean {
  for (const slot of laneOf(t, tx, row.actor, row.lane)) {
    const later = t.effects.see(slot, tx)!;
    if (later.status === 'pending' && later.replaces && isBefore(row, later)) return true;
  }
  return false;
}

/** When a suspect's pause ends. */
export function endOfPause({ leaseUntil, takeovers }: EffectRow, firstSeconds: number, longestSeconds: number): number {
  if (leaseUntil === null) return Number.NEGATIVE_INFINITY;
  return leaseUntil + (takeovers < 3 ? 0 : Math.min(longestSeconds, firstSeconds * 2 ** Math.min(takeovers - 3, 30)) * 1000);
}

twin(
  outbox.LEASE,
  (t, tx, [now, limit, token, seconds, types, busy, kinds, versions, suspectLimit, firstPause, longestPause]) => {
    const at = momentOrNow(now, tx);
    const due: Slot<EffectRow>[] = [];
    const suspects: Slot<EffectRow>[] = [];
    for (const slot of t.effects.all()) {
      const row = t.effects.see(slot, tx);
      if (row === null || row.status !== 'pending' || row.nextAt > at) continue;
      if (row.leaseUntil !== null && row.leaseUntil >= at) continue;
      if (!types.includes(row.type) || busy.includes(row.effectId) || !t.effects.isFree(slot, tx)) continue;
      const owner = t.actors.get(row.actor, tx);
      const newer = (kinds as string[]).some((kind, index) => kind === owner?.kind && owner.version > versions[index]);
      if (newer) continue;
      const blocked = [...laneOf(t, tx, row.actor, row.lane)].some((other) => {
        const earlier = t.effects.see(other, tx)!;
        return earlier.status === 'pending' && isBefore(earlier, row);
      });
      if (blocked) continue;
      if (row.takeovers < 3) due.push(slot);
      else if (endOfPause(row, firstPause, longestPause) < at || isReplaced(t, tx, row)) suspects.push(slot);
    }
    due.sort((a, b) => a.value!.nextAt - b.value!.nextAt);
    suspects.sort(
      ({ value: a }, { value: b }) =>
        a!.takeovers - b!.takeovers || a!.nextAt - b!.nextAt || (a!.effectId < b!.effectId ? -1 : 1),
    );
    return rows(
      [...due.slice(0, limit), ...suspects.slice(0, suspectLimit)].map((slot) => {
        const before = slot.value!;
        const superseded = isReplaced(t, tx, before);
        const takeovers = before.takeovers + (before.leaseToken === null ? 0 : 1);
        const row: EffectRow = superseded
          ? { ...before, status: 'superseded', endedAt: at, takeovers, leaseToken: null, leaseUntil: null }
          : { ...before, takeovers, leaseToken: token, leaseUntil: at + seconds * 1000 };
        t.effects.update(slot, row, tx);
        const { effectId, actor, type, params, attempts } = row;
        return { effectId, actor, type, params, attempts, createdAt: new Date(row.createdAt), takeovers, superseded };
      }),
    );
  },
);

/** The effect under this lease, locked; null if the lease was lost. */
function leased(t: Tables, tx: Tx, effectId: string, token: string): Slot<EffectRow> | null {
  const slot = t.effects.slot(effectId);
  const holds = (row: EffectRow | null | undefined) => row?.leaseToken === token;
  if (slot === undefined || !holds(t.effects.see(slot, tx))) return null;
  t.effects.lock(slot, tx);
  return holds(slot.value) ? slot : null;
}

twin(outbox.RENEW, (t, tx, [now, ids, token, seconds]) => {
  const kept: { effectId: string }[] = [];
  for (const effectId of new Set<string>(ids)) {
    const slot = t.effects.slot(effectId);
    const row = slot === undefined ? null : t.effects.see(slot, tx);
    if (slot === undefined || row?.leaseToken !== token) continue;
    kept.push({ effectId });
    if (!t.effects.isFree(slot, tx)) continue;
    t.effects.update(slot, { ...row!, leaseUntil: momentOrNow(now, tx) + seconds * 1000 }, tx);
  }
  return rows(kept);
});

function end(t: Tables, tx: Tx, slot: Slot<EffectRow>, status: 'done' | 'failed', error: string | null, at: number): void {
  const attempts = slot.value!.attempts + 1;
  const ended = { status, attempts, lastError: error, endedAt: at, leaseToken: null, leaseUntil: null };
  t.effects.update(slot, { ...slot.value!, ...ended }, tx);
}

twin(outbox.END_DONE, (t, tx, [ids, token, now]) => {
  const at = momentOrNow(now, tx);
  const found: { slot: Slot<EffectRow>; laneGoesOn: boolean }[] = [];
  for (const effectId of new Set<string>(ids)) {
    const slot = leased(t, tx, effectId, token);
    if (slot === null) continue;
    // The question after the lane is asked of what was there before the statement.
    const { actor, lane } = slot.value!;
    const laneGoesOn = [...laneOf(t, tx, actor, lane)].some(
      (other) => other !== slot && t.effects.see(other, tx)!.status === 'pending',
    );
    found.push({ slot, laneGoesOn });
  }
  for (const { slot } of found) end(t, tx, slot, 'done', null, at);
  return rows(found.map(({ slot, laneGoesOn }) => ({ effectId: slot.key, now: new Date(at), laneGoesOn })));
});

twin(outbox.FAIL, (t, tx, [effectId, token, error, now]) => {
  const slot = leased(t, tx, effectId, token);
  if (slot === null) return count(0);
  end(t, tx, slot, 'failed', error, momentOrNow(now, tx));
  return count(1);
});

twin(outbox.RETRY, (t, tx, [effectId, token, attempts, error, now, seconds]) => {
  const slot = leased(t, tx, effectId, token);
  if (slot === null) return count(0);
  const row = slot.value!;
  const next: EffectRow = {
    ...row,
    status: isReplaced(t, tx, row) ? 'superseded' : 'pending',
    attempts: row.attempts + attempts,
    lastError: error,
    leaseToken: null,
    leaseUntil: null,
    takeovers: 0,
    nextAt: momentOrNow(now, tx) + seconds * 1000,
  };
  t.effects.update(slot, next, tx);
  return count(1);
});

twin(outbox.UNTIL_NEXT, (t, tx, [now]) => {
  let next: number | null = null;
  const from = momentOrNow(now, tx);
  for (const row of t.effects.rows(tx)) {
    if (row.status === 'pending' && row.nextAt > from && (next === null || row.nextAt < next)) next = row.nextAt;
  }
  return rows(next === null ? [] : [{ ms: (next - from).toFixed(6) }]);
});
