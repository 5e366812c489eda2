/** Twins of what the tracker asks: facts, node types, missing pods, orphans, leases. */
import { KNOWN_ACTORS } from '../../../actors/gpu-pool/facts.ts';
import { BELIEVED_PODS } from '../../../actors/gpu-pool/missing.ts';
import * as types from '../../../actors/gpu-pool/node-types.ts';
import { OWNERS } from '../../../actors/gpu-pool/orphans.ts';
import * as leases from '../../../persistence/leases.ts';
import { count, rows, twin } from '../store/statement.ts';
import { writeSlot } from './capacity.ts';

interface Known {
  generation: number;
  pod: { uid: string | null };
}

twin(KNOWN_ACTORS, (t, tx, [actors]) =>
  rows((actors as string[]).filter((actor) => t.actors.get(actor, tx) !== null).map((actor) => ({ actor }))),
);

twin(BELIEVED_PODS, (t, tx) => {
  const found = [];
  for (const row of t.actors.everything(tx)) {
    if (row.kind !== 'reservation' || !['provisioning', 'running', 'extending'].includes(row.state ?? '')) continue;
    const { generation, pod } = row.snapshot!.context as Known;
    if (pod.uid !== null) found.push({ id: row.actor.slice(12), generation, uid: pod.uid });
  }
  return rows(found);
});

twin(types.NODE_TYPES, (t, tx) => {
  const found = [...t.gpuTypes.rows(tx)].map((row) => ({
    gpuType: row.gpuType,
    resourceName: row.resourceName,
    maxPerNode: row.maxPerNode,
    offered: row.isActive,
  }));
  return rows(found.sort((a, b) => (a.gpuType < b.gpuType ? -1 : 1)));
});

twin(types.RECORDED_TYPES, (t, tx) => rows([...t.nodes.rows(tx)].map(({ node, gpuType }) => ({ node, gpuType }))));

twin(types.MOVE_SLOTS, (t, tx, [names]) => {
  let moved = 0;
  for (const name of names as string[]) {
    const node = t.nodes.get(name, tx);
    if (node === null) continue;
    for (const slot of t.slots.group(name)) {
      if ((t.slots.see(slot, tx)?.gpuType ?? node.gpuType) === node.gpuType) continue;
      t.slots.lock(slot, tx);
      writeSlot(t, tx, slot, { ...slot.value!, gpuType: node.gpuType });
      moved++;
    }
  }
  return count(moved);
});

twin(OWNERS, (t, tx, [actors]) => {
  const found = [];
  for (const actor of new Set<string>(actors)) {
    const row = t.actors.get(actor, tx);
    if (row === null || row.snapshot === null) continue;
    found.push({ id: actor.slice(12), state: row.state, generation: (row.snapshot.context as Known).generation });
  }
  return rows(found);
});

twin(leases.HOLD_LEASE, (t, tx, [name, holder, seconds]) => {
  const until = tx.now + seconds * 1000;
  if (t.leases.insert({ name, holder, token: 1, until }, tx)) return rows([{ token: 1 }]);
  const slot = t.leases.slot(name)!;
  t.leases.lock(slot, tx);
  const held = slot.value!;
  if (held.holder !== holder && held.until >= tx.now) return rows([]);
  const token = held.token + (held.holder === holder ? 0 : 1);
  t.leases.update(slot, { name, holder, token, until }, tx);
  return rows([{ token }]);
});

twin(leases.DROP_LEASE, (t, tx, [name, holder]) => {
  const slot = t.leases.slot(name);
  if (slot === undefined || t.leases.see(slot, tx)?.holder !== holder) return count(0);
  t.leases.lock(slot, tx);
  if (slot.value?.holder !== holder) return count(0);
  t.leases.update(slot, { ...slot.value!, until: tx.now }, tx);
  return count(1);
});

twin(leases.ASSERT_LEASE, (t, tx, [name, token]) => {
  const slot = t.leases.slot(name);
  if (slot === undefined || t.leases.see(slot, tx)?.token !== token) return count(0);
  t.leases.share(slot, tx);
  return count(slot.value?.token === token ? 1 : 0);
});
