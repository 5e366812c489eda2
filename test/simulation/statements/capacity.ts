/** Twins of persistence/gpu-nodes.ts and actors/gpu-pool/capacity.ts. */
import * as capacity from '../../../actors/gpu-pool/capacity.ts';
import * as nodes from '../../../persistence/gpu-nodes.ts';
import type { NodeRow, RequestRow, SlotRow, Tables } from '../store/schema.ts';
import { count, dateOf, moment, rows, twin } from '../store/statement.ts';
import { SqlError, type Slot, type Tx } from '../store/tables.ts';

/** Delete a slot; the trigger refuses one that is held. */
export function deleteSlot(t: Tables, tx: Tx, slot: Slot<SlotRow>): void {
  if (slot.value!.reservationId !== null) throw new SqlError('GD003', `slot ${slot.key} is held and cannot be removed`);
  t.slots.delete(slot, tx);
}

/** Change a slot; the trigger refuses to hand it from one holder to another. */
export function writeSlot(t: Tables, tx: Tx, slot: Slot<SlotRow>, next: SlotRow): void {
  const before = slot.value!.reservationId;
  if (before !== null && next.reservationId !== null && before !== next.reservationId) {
    throw new SqlError('GD002', `slot ${slot.key} is held by reservation ${before}`);
  }
  t.slots.update(slot, next, tx);
}

twin(nodes.UPSERT, (t, tx, [json]) => {
  const list = JSON.parse(json) as NodeRow[];
  for (const row of list) {
    if (!t.nodes.insert({ ...row }, tx)) t.nodes.update(t.nodes.slot(row.node)!, { ...row }, tx);
  }
  return count(list.length);
});

twin(nodes.ADD_SLOTS, (t, tx, [json]) => {
  let added = 0;
  for (const { node, gpuType, slots } of JSON.parse(json) as NodeRow[]) {
    if (t.gpuTypes.get(gpuType, tx) === null) throw new SqlError('23503', `gpu_slots: no type ${gpuType}`);
    for (let slot = 0; slot < slots; slot++) {
      const row = { gpuType, node, slot, reservationId: null, generation: null, heldSince: null };
      if (t.slots.insert(row, tx)) added++;
    }
  }
  return count(added);
});

twin(nodes.DROP_SLOTS, (t, tx, [json]) => {
  let dropped = 0;
  for (const { node, slots } of JSON.parse(json) as NodeRow[]) {
    for (const slot of t.slots.group(node)) {
      const row = t.slots.see(slot, tx);
      if (row === null || row.slot < slots || row.reservationId !== null) continue;
      t.slots.lock(slot, tx);
      deleteSlot(t, tx, slot);
      dropped++;
    }
  }
  return count(dropped);
});

twin(nodes.HOLDERS_ON, (t, tx, [node]) => {
  const found = new Map<string, { reservationId: string; generation: number | null }>();
  for (const slot of t.slots.group(node)) {
    const row = t.slots.see(slot, tx);
    if (row === null || row.reservationId === null) continue;
    found.set(`${row.reservationId} ${row.generation}`, { reservationId: row.reservationId, generation: row.generation });
  }
  return rows([...found.values()]);
});

twin(nodes.REMOVE_NODES, (t, tx, [names]) => {
  let removed = 0;
  for (const name of names as string[]) {
    const slot = t.nodes.slot(name);
    if (slot === undefined || t.nodes.see(slot, tx) === null) continue;
    t.nodes.delete(slot, tx);
    removed++;
  }
  return count(removed);
});

twin(nodes.REMOVE_FREE_SLOTS, (t, tx, [names]) => {
  let removed = 0;
  for (const name of names as string[]) {
    for (const slot of t.slots.group(name)) {
      const row = t.slots.see(slot, tx);
      if (row === null || row.reservationId !== null) continue;
      t.slots.lock(slot, tx);
      deleteSlot(t, tx, slot);
      removed++;
    }
  }
  return count(removed);
});

const byName = (a: { node: string }, b: { node: string }) => (a.node < b.node ? -1 : 1);

// Triggers keep what the ledger and the line add up to in tables of their own; here it is counted when it is asked for.
twin(capacity.NODES, (t, tx, [gpuType]) => {
  const found = [];
  for (const row of t.nodes.rows(tx)) {
    if (row.gpuType !== gpuType) continue;
    const free: number[] = [];
    let held = 0;
    for (const slot of t.slots.group(row.node)) {
      const one = t.slots.see(slot, tx);
      if (one === null) continue;
      if (one.reservationId === null) free.push(one.slot);
      else held++;
    }
    let [cpu, memory] = [row.cpuMillis - row.foreignCpu, row.memoryBytes - row.foreignMemory];
    let promised = false;
    for (const request of t.requests.rows(tx)) {
      if (request.status !== 'granted' || request.node !== row.node) continue;
      promised = true;
      cpu -= request.cpuMillis;
      memory -= request.memoryBytes;
    }
    const { node, zone, schedulable, ready, slots } = row;
    const text = free.length + held > 0 || promised ? JSON.stringify(free.sort((a, b) => a - b)) : null;
    found.push({ node, zone, schedulable, ready, slots, foreign_slots: row.foreignSlots, cpu, memory, free: text, held });
  }
  return rows(found.sort(byName));
});

twin(capacity.NODE_LABELS, (t, tx, [gpuType, keys]) => {
  const found = [...t.nodes.rows(tx)].filter((row) => row.gpuType === gpuType);
  return rows(
    found.map(({ node, labels }) => {
      const asked = Object.entries(labels).filter(([key]) => (keys as string[]).includes(key));
      return { node, labels: asked.length === 0 ? null : Object.fromEntries(asked) };
    }),
  );
});

function membersOf(found: Iterable<RequestRow>, of: RequestRow['status'], gangIds: string[], owners: string[]) {
  const members = new Map<string, { owner: string; gangId: string; members: number }>();
  for (const { gangId, owner, status } of found) {
    if (gangId === null || status !== of || !gangIds.some((id, n) => id === gangId && owners[n] === owner)) continue;
    const key = `${gangId}/${owner}`;
    members.set(key, { owner, gangId, members: (members.get(key)?.members ?? 0) + 1 });
  }
  return rows([...members.values()]);
}

twin(capacity.GANGS_GRANTED, (t, tx, [gangIds, owners]) => membersOf(t.requests.rows(tx), 'granted', gangIds, owners));

twin(capacity.GANGS_WAITING, (t, tx, [gangIds, owners]) => membersOf(t.requests.rows(tx), 'waiting', gangIds, owners));

const inLine = (a: RequestRow, b: RequestRow) =>
  a.submittedAt - b.submittedAt || (a.reservationId < b.reservationId ? -1 : a.reservationId > b.reservationId ? 1 : 0);

twin(capacity.WAITING, (t, tx, [gpuType, limit, only]) => {
  const waiting = [...t.requests.rows(tx)]
    .filter((row) => row.gpuType === gpuType && row.status === 'waiting' && (only === null || only.includes(row.owner)))
    .sort(inLine);
  return rows(
    waiting.slice(0, limit ?? undefined).map((row) => ({
      reservationId: row.reservationId,
      generation: row.generation,
      slots: row.slots,
      cpuMillis: row.cpuMillis,
      memoryBytes: row.memoryBytes,
      nodeLabels: row.nodeLabels,
      owner: row.owner,
      gangId: row.gangId,
      gangSize: row.gangSize,
      durationHours: row.durationHours,
      waitsBecause: row.waitsBecause,
      place: row.place,
      submittedAt: row.submittedAt,
    })),
  );
});

twin(capacity.HOLDERS, (t, tx, [gpuType]) => {
  const held = new Map<string, number[]>();
  for (const slot of t.slots.rows(tx)) {
    if (slot.reservationId === null || slot.gpuType !== gpuType) continue;
    const list = held.get(slot.reservationId) ?? [];
    list.push(slot.slot);
    held.set(slot.reservationId, list);
  }
  const found = [];
  for (const row of t.requests.rows(tx)) {
    if (row.gpuType !== gpuType || row.status !== 'granted') continue;
    const { reservationId, node, cpuMillis, memoryBytes } = row;
    const slots = held.get(reservationId)?.sort((a, b) => a - b);
    if (slots === undefined) continue;
    const expiresAt = dateOf(moment(t.reservations.get(reservationId, tx)?.['expires_at']));
    found.push({ reservationId, node, cpuMillis, memoryBytes, slots, expiresAt });
  }
  return rows(found);
});

twin(capacity.WRITE_AVAILABILITY, (t, tx, [gpuType, total, free, inUse, wholeNodes, largest, paused, at]) => {
  const queued = [...t.requests.rows(tx)].filter((row) => row.gpuType === gpuType && row.status === 'waiting').length;
  const row = {
    gpu_type: gpuType,
    total,
    free,
    in_use: inUse,
    queued,
    whole_nodes_free: wholeNodes,
    largest_fit: largest,
    paused_because: paused,
    updated_at: moment(at),
  };
  if (!t.availability.insert(row, tx)) t.availability.update(t.availability.slot(gpuType)!, row, tx);
  return count(1);
});

twin(capacity.COUNT_LINE, (t, tx, [gpuType]) => {
  const slot = t.availability.slot(gpuType);
  const row = slot === undefined ? null : t.availability.see(slot, tx);
  if (slot === undefined || row === null) return count(0);
  const queued = [...t.requests.rows(tx)].filter((each) => each.gpuType === gpuType && each.status === 'waiting').length;
  t.availability.update(slot, { ...row, queued }, tx);
  return count(1);
});

twin(capacity.WRITE_REASONS, (t, tx, [ids, reasons]) => {
  let written = 0;
  for (const [index, id] of (ids as string[]).entries()) {
    const slot = t.requests.slot(id);
    if (slot === undefined || t.requests.see(slot, tx)?.status !== 'waiting') continue;
    t.requests.lock(slot, tx);
    if (slot.value?.status !== 'waiting') continue;
    t.requests.update(slot, { ...slot.value, waitsBecause: reasons[index] }, tx);
    written++;
  }
  return count(written);
});

twin(capacity.CLEAR_REASONS, (t, tx, [gpuType, kept]) => {
  let cleared = 0;
  for (const slot of t.requests.all()) {
    const meant = (row: RequestRow | null) => row !== null && row.gpuType === gpuType && row.waitsBecause !== null;
    if (!meant(t.requests.see(slot, tx)) || kept.includes(slot.key)) continue;
    t.requests.lock(slot, tx);
    if (!meant(slot.value)) continue;
    t.requests.update(slot, { ...slot.value!, waitsBecause: null }, tx);
    cleared++;
  }
  return count(cleared);
});
