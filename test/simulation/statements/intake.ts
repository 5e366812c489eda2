/** Twins of actors/intake and of the queues behind it. */
import { CATALOGUE_VERSION, READ_CATALOGUE } from '../../../actors/intake/catalogue.ts';
import * as operations from '../../../actors/intake/disk-operations.ts';
import * as disks from '../../../actors/intake/disks.ts';
import * as doors from '../../../actors/intake/doors.ts';
import { LOCK_GANG, SIBLINGS } from '../../../actors/intake/gangs.ts';
import * as lookup from '../../../actors/intake/lookup.ts';
import { EVENT_OF_KEY } from '../../../actors/intake/repeated.ts';
import { CLAIM_IDS } from '../../../actors/intake/together.ts';
import { RECORD_AUDIT } from '../../../persistence/audit.ts';
import { ADD_LETTER } from '../../../persistence/dead-letters.ts';
import * as pgmq from '../../../persistence/pgmq.ts';
import type { DiskRow, Tables } from '../store/schema.ts';
import { count, rows, twin } from '../store/statement.ts';
import { SqlError, type Tx } from '../store/tables.ts';

twin(READ_CATALOGUE, (t, tx) => {
  const active = [...t.gpuTypes.rows(tx)].filter((row) => row.isActive).sort((a, b) => (a.gpuType < b.gpuType ? -1 : 1));
  return rows(
    active.map(({ isActive: _active, ...row }) => {
      const found = t.maintenance.get(row.gpuType, tx);
      if (found === null) return { ...row, maintenance: null };
      const { reason, allowed, fromAt, untilAt } = found;
      const until = untilAt === null ? null : new Date(untilAt).toISOString().replace('Z', '+00:00').replace('.000', '');
      return { ...row, maintenance: { reason, allowed, until, inForce: fromAt <= tx.now && (untilAt ?? Infinity) > tx.now } };
    }),
  );
});

/** Only maintenance changes the catalogue of the simulated world. */
twin(CATALOGUE_VERSION, (t, tx) => rows([{ version: t.catalogueVersion.get('it', tx)?.version ?? 1 }]));

/** Nothing in the simulated world reads the audit log. */
twin(RECORD_AUDIT, (_t, _tx, [actors]) => count((actors as string[]).length));

twin(disks.FIND_DISK, (t, tx, [owner, name]) => {
  for (const slot of t.disks.all()) {
    const meant = (row: DiskRow | null) => row !== null && row.owner === owner && row.name === name && row.purgedAt === null;
    if (!meant(t.disks.see(slot, tx))) continue;
    t.disks.share(slot, tx);
    if (!meant(slot.value)) continue;
    const { diskId, deleteDate, place, sizeGb } = slot.value!;
    return rows([{ disk_id: diskId, is_deleted: deleteDate !== null, volume_place: place, size_gb: sizeGb }]);
  }
  return rows([]);
});

/** The row of a disk that is to be born. */
function newDisk(diskId: string, owner: string, name: string, sizeGb: number, now: number): DiskRow {
  return {
    diskId,
    owner,
    name,
    sizeGb,
    state: 'opening',
    createdAt: now,
    lastUsed: null,
    reservationId: null,
    deleteDate: null,
    markedDeletedAt: null,
    purgedAt: null,
    latestSnapshot: null,
    claim: null,
    place: null,
    problem: null,
    isBackingUp: false,
    snapshotCount: 0,
    pendingSnapshotCount: 0,
    lastSnapshotAt: null,
    lastUpdated: now,
  };
}

/** Insert a disk unless its owner has one of that name. */
function insertDisk(t: Tables, tx: Tx, disk: DiskRow): boolean {
  if (t.disks.insert(disk, tx)) return true;
  for (const row of t.disks.rows(tx))
    if (row.owner === disk.owner && row.name === disk.name && row.purgedAt === null) return false;
  throw new SqlError('23505', `duplicate key in disks: ${disk.diskId}`);
}

twin(disks.INSERT_DISK, (t, tx, [diskId, owner, name, sizeGb]) =>
  count(insertDisk(t, tx, newDisk(diskId, owner, name, sizeGb, tx.now)) ? 1 : 0),
);

twin(disks.RESOLVE_DISKS, (t, tx, [ids, owners, names, sizes]) => {
  const asked = new Map<string, DiskRow>();
  for (const [index, id] of (ids as string[]).entries()) {
    const wish = newDisk(id, owners[index], names[index], sizes[index], tx.now);
    const key = `${wish.owner}\n${wish.name}`;
    if (!asked.has(key)) asked.set(key, wish);
  }
  const answer = (row: DiskRow, made: boolean) => ({
    id: row.diskId,
    owner: row.owner,
    name: row.name,
    sizeGb: row.sizeGb,
    place: row.place,
    made,
  });
  const found = [];
  // What the statement makes is not there for its other half.
  for (const slot of [...t.disks.all()]) {
    const isThere = (row: DiskRow | null) =>
      row !== null && row.purgedAt === null && row.deleteDate === null && asked.has(`${row.owner}\n${row.name}`);
    if (!isThere(t.disks.see(slot, tx))) continue;
    t.disks.share(slot, tx);
    if (isThere(slot.value)) found.push(answer(slot.value!, false));
  }
  for (const wish of [...asked.values()].sort((a, b) => (`${a.owner}\n${a.name}` < `${b.owner}\n${b.name}` ? -1 : 1))) {
    if (insertDisk(t, tx, wish)) found.push(answer(wish, true));
  }
  return rows(found);
});

twin(disks.READ_NOW, (_t, tx) => rows([{ now: new Date(tx.now) }]));

twin(operations.OPEN_OPERATION, (t, tx, [operationId, owner, action, diskName, request]) => {
  const row = {
    operationId,
    owner,
    action,
    diskName,
    request: JSON.parse(request),
    diskId: null,
    status: 'pending' as const,
    error: null,
    code: null,
    updatedAt: tx.now,
  };
  return count(t.operations.insert(row, tx) ? 1 : 0);
});

twin(operations.EARLIER_OPERATION, (t, tx, [operationId]) => {
  const row = t.operations.get(operationId, tx);
  return rows(row === null ? [] : [{ user_id: row.owner, action: row.action, request: row.request }]);
});

twin(operations.FAIL_OPERATION, (t, tx, [operationId, error, code]) => {
  const slot = t.operations.slot(operationId);
  if (slot === undefined || t.operations.see(slot, tx) === null) return count(0);
  t.operations.lock(slot, tx);
  t.operations.update(slot, { ...slot.value!, status: 'failed', error, code, updatedAt: tx.now }, tx);
  return count(1);
});

twin(operations.OPERATION_DISK, (t, tx, [operationId, diskId]) => {
  const slot = t.operations.slot(operationId);
  if (slot === undefined || t.operations.see(slot, tx) === null) return count(0);
  t.operations.lock(slot, tx);
  t.operations.update(slot, { ...slot.value!, diskId }, tx);
  return count(1);
});

twin(operations.DISK_SIZE, (t, tx, [diskId]) => {
  const row = t.disks.get(diskId, tx);
  return rows(row === null ? [] : [{ size_gb: row.sizeGb }]);
});

twin(operations.LOCK_DISK, (t, tx, [owner, name]) => {
  for (const slot of t.disks.all()) {
    const row = t.disks.see(slot, tx);
    if (row?.owner !== owner || row?.name !== name || row?.purgedAt !== null) continue;
    t.disks.lock(slot, tx);
    return count(1);
  }
  return count(0);
});

twin(operations.RENAME_DISK, (t, tx, [diskId, owner, name]) => {
  const slot = t.disks.slot(diskId);
  if (slot === undefined || t.disks.see(slot, tx) === null) return count(0);
  const taken = [...t.disks.rows(tx)].some(
    (row) => row.owner === owner && row.name === name && row.purgedAt === null && row.diskId !== diskId,
  );
  if (taken) return count(0);
  t.disks.lock(slot, tx);
  t.disks.update(slot, { ...slot.value!, name, lastUpdated: tx.now }, tx);
  return count(1);
});

twin(doors.CLAIM_ID, (t, tx, [ref, owner, value]) =>
  count(t.secrets.insert({ ref, owner, value: JSON.parse(value) }, tx) ? 1 : 0),
);

twin(CLAIM_IDS, (t, tx, [ids, owners, values]) => {
  let taken = 0;
  for (const id of ids as string[]) {
    if (t.reservations.get(id, tx) !== null) taken++;
    for (const slot of t.mailbox.group(`reservation/${id}`)) {
      if (t.mailbox.see(slot, tx)?.event.type === 'reservation.submitted') taken++;
    }
  }
  let claimed = 0;
  for (const [index, ref] of (ids as string[]).entries()) {
    if (t.secrets.insert({ ref, owner: owners[index], value: JSON.parse(values[index]) }, tx)) claimed++;
  }
  return rows([{ claimed, taken }]);
});

twin(doors.KEEP_CONTEXT, (t, tx, [hash, owner]) => count(t.contexts.insert({ hash, owner }, tx) ? 1 : 0));

twin(doors.OWNER_OF_ID, (t, tx, [id, actor]) => {
  const secret = t.secrets.get(id, tx);
  const fingerprint = (secret?.value as { fingerprint?: string } | undefined)?.fingerprint ?? null;
  const reservation = t.reservations.get(id, tx);
  if (reservation !== null) return rows([{ owner: reservation['user_id'], fingerprint }]);
  for (const slot of t.mailbox.group(actor)) {
    const mail = t.mailbox.see(slot, tx);
    if (mail?.event.type === 'reservation.submitted') return rows([{ owner: mail.event['owner'], fingerprint }]);
  }
  return rows(secret === null ? [] : [{ owner: secret.owner, fingerprint }]);
});

twin(EVENT_OF_KEY, (t, tx, [actor, key]) => {
  for (const slot of t.mailbox.group(actor)) {
    const mail = t.mailbox.see(slot, tx);
    if (mail !== null && mail.key === key) return rows([{ event: mail.event }]);
  }
  const row = t.history.get(`${actor}\n${key}`, tx);
  return rows(row === null ? [] : [{ event: row.event }]);
});

/** Doors of the simulation that send at once may both be served: the pool refuses what does not fit. */
twin(LOCK_GANG, () => rows([{ locked: true }]));

twin(SIBLINGS, (t, tx, [gangId]) => {
  const found: unknown[] = [];
  for (const row of t.reservations.rows(tx)) {
    if (row['master_reservation_id'] !== gangId) continue;
    const live = !['expired', 'failed', 'cancelled'].includes(row['status'] as string);
    const { user_id: owner, gpu_type: gpuType, node_index: index, total_nodes: size, reservation_id: id } = row;
    found.push({ id, owner, gpuType, index, size, live });
  }
  for (const { event } of t.mailbox.rows(tx)) {
    if (event.type !== 'reservation.submitted') continue;
    const { gang, gpuType = null } = event['request'] as {
      gang?: { id: string; index?: number; size?: number } | null;
      gpuType?: string;
    };
    if (gang === undefined || gang === null || gang.id !== gangId) continue;
    const { index = null, size = null } = gang;
    found.push({ id: event['id'] ?? null, owner: event['owner'], gpuType, index, size, live: true });
  }
  return rows(found);
});

twin(lookup.OWNER_BY_ID, (t, tx, [id]) => {
  const row = t.reservations.get(id, tx);
  return rows(row === null ? [] : [{ user_id: row['user_id'] }]);
});

twin(lookup.FIND_BY_PREFIX, (t, tx, [prefix, user]) => {
  const found = [...t.reservations.rows(tx)]
    .filter((row) => (row['reservation_id'] as string).startsWith(prefix) && (user === null || row['user_id'] === user))
    .map((row) => ({
      id: row['reservation_id'] as string,
      user_id: row['user_id'] as string,
      ended: row['reservation_ended'] !== null,
      created: Date.parse(row['created_at'] as string),
    }))
    .sort((a, b) => Number(a.ended) - Number(b.ended) || b.created - a.created);
  return rows(found.slice(0, 20).map(({ created: _created, ...row }) => row));
});

twin(ADD_LETTER, (t, tx, [source, queue, msgId, actor, key, body, code, field, reason, original, sender]) => {
  for (const letter of t.deadLetters.rows(tx)) {
    if (queue !== null && msgId !== null && letter.queue === queue && letter.msgId === msgId) return count(0);
  }
  const id = ++t.lastLetterId;
  t.deadLetters.insert(
    {
      id,
      source,
      queue,
      msgId,
      actor,
      key,
      body: body === null ? null : JSON.parse(body),
      code,
      field,
      reason,
      original: original === null ? null : JSON.parse(original),
      sender,
    },
    tx,
  );
  return count(1);
});

twin(pgmq.READ_QUEUE, (t, tx, [queue, seconds, limit]) => {
  const found = [];
  for (const slot of t.queues.all()) {
    const row = t.queues.see(slot, tx);
    if (row === null || row.queue !== queue || row.archived || row.visibleAt > tx.now || !t.queues.isFree(slot, tx)) continue;
    found.push(slot);
  }
  found.sort((a, b) => a.value!.msgId - b.value!.msgId);
  return rows(
    found.slice(0, limit).map((slot) => {
      const row = { ...slot.value!, readCount: slot.value!.readCount + 1, visibleAt: tx.now + seconds * 1000 };
      t.queues.update(slot, row, tx);
      const { msgId, readCount, enqueuedAt, message } = row;
      return { msg_id: msgId, read_ct: readCount, enqueued_at: new Date(enqueuedAt), message };
    }),
  );
});

twin(pgmq.TAKE_FROM_QUEUE, (t, tx, [queue, limit]) => {
  const taken = [];
  for (const slot of t.queues.all()) {
    const row = t.queues.see(slot, tx);
    if (row === null || row.queue !== queue || row.archived || row.visibleAt > tx.now || !t.queues.isFree(slot, tx)) continue;
    taken.push(slot);
  }
  taken.sort((a, b) => a.value!.msgId - b.value!.msgId);
  return rows(
    taken.slice(0, limit).map((slot) => {
      const { msgId, readCount, enqueuedAt, message } = slot.value!;
      t.queues.delete(slot, tx);
      return { msg_id: msgId, read_ct: readCount, enqueued_at: new Date(enqueuedAt), message };
    }),
  );
});

twin(pgmq.DELETE_FROM_QUEUE, (t, tx, [queue, ids]) => {
  for (const id of ids as number[]) {
    const slot = t.queues.slot(`${queue}\n${id}`);
    if (slot !== undefined && t.queues.see(slot, tx) !== null) t.queues.delete(slot, tx);
  }
  return rows([{}]);
});

twin(pgmq.ARCHIVE_MESSAGE, (t, tx, [queue, id]) => {
  const slot = t.queues.slot(`${queue}\n${id}`);
  if (slot === undefined || t.queues.see(slot, tx) === null) return rows([{ archive: false }]);
  t.queues.lock(slot, tx);
  t.queues.update(slot, { ...slot.value!, archived: true }, tx);
  return rows([{ archive: true }]);
});

twin(pgmq.HIDE_MESSAGE, (t, tx, [queue, id, seconds]) => {
  const slot = t.queues.slot(`${queue}\n${id}`);
  if (slot === undefined || t.queues.see(slot, tx) === null) return rows([]);
  t.queues.lock(slot, tx);
  t.queues.update(slot, { ...slot.value!, visibleAt: tx.now + seconds * 1000 }, tx);
  return rows([{}]);
});

twin(pgmq.COUNT_FAILURE, (t, tx, [queue, msgId, reason]) => {
  const slot = t.queueFailures.slot(`${queue}\n${msgId}`);
  const tries = (slot === undefined ? 0 : (t.queueFailures.see(slot, tx)?.tries ?? 0)) + 1;
  const row = { queue, msgId, tries, reason };
  if (!t.queueFailures.insert(row, tx)) t.queueFailures.update(slot!, row, tx);
  return rows([{ tries }]);
});
