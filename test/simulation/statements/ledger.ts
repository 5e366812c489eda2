/** Twins of actors/gpu-pool/ledger.ts and actors/gpu-pool/kind.ts. */
import { GRANTED_NODE } from '../../../actors/gpu-pool/kind.ts';
import * as gangs from '../../../actors/gpu-pool/gangs.ts';
import * as ledger from '../../../actors/gpu-pool/ledger.ts';
import * as maintenance from '../../../actors/gpu-pool/maintenance.ts';
import type { RequestRow, Tables } from '../store/schema.ts';
import { count, moment, rows, twin } from '../store/statement.ts';
import { SqlError, type Tx } from '../store/tables.ts';
import { deleteSlot, writeSlot } from './capacity.ts';

twin(ledger.SHARE_SLOTS, (t, tx) => {
  t.slotsLock.take(tx, false);
  return rows([{}]);
});

twin(ledger.LOCK_SLOTS, (t, tx) => {
  t.slotsLock.take(tx, true);
  return rows([{}]);
});

twin(ledger.ADD_REQUESTS, (t, tx, [list]) => {
  let added = 0;
  const asked = JSON.parse(list) as Record<string, unknown>[];
  for (const n of asked.sort((a, b) => (String(a['reservation_id']) < String(b['reservation_id']) ? -1 : 1))) {
    const diskId = n['disk_id'] as string | null;
    const row = {
      reservationId: n['reservation_id'],
      gpuType: n['gpu_type'],
      owner: n['owner'],
      generation: n['generation'],
      slots: n['slots'],
      cpuMillis: n['cpu_millis'],
      memoryBytes: n['memory_bytes'],
      durationHours: n['duration_hours'],
      nodeLabels: n['node_labels'],
      gangId: n['gang_id'],
      gangSize: n['gang_size'],
      place: diskId === null ? null : (t.disks.get(diskId, tx)?.place ?? null),
      submittedAt: moment(n['submitted_at'])!,
      status: 'waiting',
      node: null,
      grantedAt: null,
      waitsBecause: null,
    } as RequestRow;
    if (t.requests.insert(row, tx)) added++;
  }
  return count(added);
});

twin(ledger.GRANT_SLOTS, (t, tx, [nodes, numbers, ids, generations, at]) => {
  const wanted = (nodes as string[]).map((node, index) => ({ index, key: `${node}\n${numbers[index]}` }));
  const held: (() => void)[] = [];
  for (const { index, key } of wanted.sort((a, b) => (a.key < b.key ? -1 : 1))) {
    const slot = t.slots.slot(key);
    if (slot === undefined || t.slots.see(slot, tx)?.reservationId !== null) continue;
    t.slots.lock(slot, tx);
    const { value } = slot;
    if (value?.reservationId !== null) continue;
    const next = { ...value, reservationId: ids[index], generation: generations[index], heldSince: moment(at) };
    held.push(() => writeSlot(t, tx, slot, next));
  }
  if (held.length < wanted.length) return count(0);
  for (const grant of held) grant();
  return count(held.length);
});

twin(ledger.GRANT_REQUESTS, (t, tx, [ids, generations, nodes, at]) => {
  let granted = 0;
  const holders = new Set([...t.slots.everything(tx)].map(({ reservationId, generation }) => `${reservationId} ${generation}`));
  for (const [index, id] of (ids as string[]).entries()) {
    const slot = t.requests.slot(id);
    const waits = (row: RequestRow | null | undefined) => row?.status === 'waiting' && row.generation === generations[index];
    if (slot === undefined || !holders.has(`${id} ${generations[index]}`) || !waits(t.requests.see(slot, tx))) continue;
    t.requests.lock(slot, tx);
    if (!waits(slot.value)) continue;
    const next = { status: 'granted' as const, node: nodes[index], grantedAt: moment(at), waitsBecause: null };
    t.requests.update(slot, { ...slot.value!, ...next }, tx);
    granted++;
  }
  return count(granted);
});

twin(ledger.DROP_REQUEST, (t, tx, [reservationId, generation]) => {
  const slot = t.requests.slot(reservationId);
  const meant = (row: RequestRow | null | undefined) =>
    row !== null && row !== undefined && (generation === null || row.generation <= generation);
  if (slot === undefined || !meant(t.requests.see(slot, tx))) return count(0);
  t.requests.lock(slot, tx);
  if (!meant(slot.value)) return count(0);
  t.requests.delete(slot, tx);
  return count(1);
});

twin(ledger.FREE_SLOTS, (t, tx, [reservationId]) => {
  const freed: { node: string; known: boolean }[] = [];
  for (const slot of t.slots.all()) {
    if (t.slots.see(slot, tx)?.reservationId !== reservationId) continue;
    t.slots.lock(slot, tx);
    if (slot.value?.reservationId !== reservationId) continue;
    writeSlot(t, tx, slot, { ...slot.value!, reservationId: null, generation: null, heldSince: null });
    const { node } = slot.value!;
    freed.push({ node, known: t.nodes.get(node, tx) !== null });
  }
  return rows(freed);
});

twin(ledger.DROP_NODELESS_SLOTS, (t, tx, [nodes]) => {
  let dropped = 0;
  for (const node of nodes as string[]) {
    if (t.nodes.get(node, tx) !== null) continue;
    for (const slot of t.slots.group(node)) {
      if (t.slots.see(slot, tx)?.reservationId !== null) continue;
      t.slots.lock(slot, tx);
      if (slot.value?.reservationId !== null) continue;
      deleteSlot(t, tx, slot);
      dropped++;
    }
  }
  return count(dropped);
});

twin(ledger.ENDED_REQUESTS, (t, tx, [gpuType]) => {
  const found: { reservation_id: string }[] = [];
  for (const row of t.requests.rows(tx)) {
    if (row.gpuType !== gpuType || t.actors.get(`reservation/${row.reservationId}`, tx)?.status !== 'done') continue;
    const told = [...t.mailbox.group(`gpu-pool/${gpuType}`)].some(
      (mail) => t.mailbox.see(mail, tx)?.event['reservationId'] === row.reservationId,
    );
    if (!told) found.push({ reservation_id: row.reservationId });
  }
  return rows(found);
});

twin(gangs.JOIN_GANG, (t, tx, [gangId, owner, index, reservationId, gpuType, size]) => {
  const taken = [...t.gangMembers.rows(tx)].some(
    (row) => index !== null && row.gangId === gangId && row.owner === owner && row.index === index,
  );
  return count(!taken && t.gangMembers.insert({ gangId, owner, index, reservationId, gpuType, size }, tx) ? 1 : 0);
});

twin(gangs.GANG_MEMBERS, (t, tx, [gangId, owner]) => {
  const members = [...t.gangMembers.rows(tx)].filter((row) => row.gangId === gangId && row.owner === owner);
  return rows(
    members
      .map(({ reservationId, index, gpuType, size }) => ({ reservationId, index, gpuType, size }))
      .sort((a, b) => (a.reservationId < b.reservationId ? -1 : 1)),
  );
});

const byId = (a: { reservation_id: string }, b: { reservation_id: string }) => (a.reservation_id < b.reservation_id ? -1 : 1);

twin(gangs.LEAVE_GANG, (t, tx, [reservationId]) => {
  const slot = t.gangMembers.slot(reservationId);
  const left = slot === undefined ? null : t.gangMembers.see(slot, tx);
  if (slot === undefined || left === null) return rows([]);
  t.gangMembers.delete(slot, tx);
  const others = [...t.gangMembers.rows(tx)].filter(
    (row) => row.gangId === left.gangId && row.owner === left.owner && row.reservationId !== reservationId,
  );
  return rows(others.map((row) => ({ reservation_id: row.reservationId })).sort(byId));
});

twin(GRANTED_NODE, (t, tx, [reservationId]) => {
  const row = t.requests.get(reservationId, tx);
  if (row === null || row.status !== 'granted') return rows([]);
  if (row.node === null) throw new SqlError('23514', 'a granted request has a node');
  const node = t.nodes.get(row.node, tx);
  // Nobody drains or forgets a node of the simulated world; cordons are the cluster's.
  const { owner } = row;
  return rows([
    {
      owner,
      node: row.node,
      schedulable: node?.schedulable ?? null,
      reason: node?.reason ?? null,
      drained: null,
      forgotten: false,
    },
  ]);
});

function catalogueChanged(t: Tables, tx: Tx, times: number): void {
  const slot = t.catalogueVersion.slot('it');
  if (slot === undefined) t.catalogueVersion.insert({ id: 'it', version: 1 + times }, tx);
  else {
    t.catalogueVersion.lock(slot, tx);
    t.catalogueVersion.update(slot, { id: 'it', version: slot.value!.version + times }, tx);
  }
}

twin(maintenance.KEEP_MAINTENANCE, (t, tx, [gpuType, reason, allowed, from, until, by]) => {
  const row = { gpuType, reason, allowed, fromAt: moment(from)!, untilAt: moment(until), by };
  if (row.untilAt !== null && row.untilAt <= row.fromAt) throw new SqlError('23514', 'maintenance ends before it begins');
  if (!t.maintenance.insert(row, tx)) t.maintenance.update(t.maintenance.slot(gpuType)!, row, tx);
  // An insert that may update fires the triggers of both.
  catalogueChanged(t, tx, 2);
  return count(1);
});

twin(maintenance.DROP_MAINTENANCE, (t, tx, [gpuType]) => {
  catalogueChanged(t, tx, 1);
  const slot = t.maintenance.slot(gpuType);
  if (slot === undefined || t.maintenance.see(slot, tx) === null) return count(0);
  t.maintenance.delete(slot, tx);
  return count(1);
});

twin(maintenance.TELL_MAINTENANCE, (t, tx, [gpuType, allowed, words]) => {
  let told = 0;
  for (const slot of t.requests.all()) {
    const meant = (row: RequestRow | null) =>
      row !== null &&
      row.gpuType === gpuType &&
      row.status === 'waiting' &&
      !allowed.includes(row.owner) &&
      row.waitsBecause !== words;
    if (!meant(t.requests.see(slot, tx))) continue;
    t.requests.lock(slot, tx);
    if (!meant(slot.value)) continue;
    t.requests.update(slot, { ...slot.value!, waitsBecause: words }, tx);
    told++;
  }
  return count(told);
});
