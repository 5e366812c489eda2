/** Twins of actors/reservation: names, the read model, and what handlers read. */
import * as names from '../../../actors/reservation/names.ts';
import * as projection from '../../../actors/reservation/projection.ts';
import * as provision from '../../../actors/reservation/provision.ts';
import { NODE_READY } from '../../../actors/reservation/teardown.ts';
import type { Columns } from '../store/schema.ts';
import { count, moment, rows, twin } from '../store/statement.ts';
import { SqlError } from '../store/tables.ts';

twin(names.CLAIM_NAMES, (t, tx, [wanted, ids]) => {
  const wishes = (wanted as string[]).flatMap((each, index) => {
    const name = each.split(' ').find((one) => t.domains.get(one, tx) === null);
    return name === undefined ? [] : [{ name, reservationId: ids[index] as string }];
  });
  // What the statement inserts is not seen by its other half, so a second row of the reservation cannot come back with it.
  const own = [...t.domains.rows(tx)].filter((row) => ids.includes(row.reservationId));
  const unpublished = { fqdn: null, zone: null, publishedAt: null, freedAt: null, problem: null };
  const domain = t.servedDomain.get('', tx)?.domain ?? null;
  const claimed = wishes
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .filter(({ name, reservationId }) => {
      if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name)) throw new SqlError('23514', `domain_name ${name}`);
      return t.domains.insert(
        { name, reservationId, nodeIp: null, nodePort: null, expiresAt: null, updatedAt: tx.now, ...unpublished },
        tx,
      );
    });
  return rows([...claimed, ...own].map(({ name, reservationId }) => ({ id: reservationId, name, domain })));
});

twin(names.FREE_NAMES, (t, tx, [ids]) => {
  let freed = 0;
  for (const slot of t.domains.all()) {
    const row = t.domains.see(slot, tx);
    if (row === null || !ids.includes(row.reservationId) || row.fqdn !== null) continue;
    t.domains.lock(slot, tx);
    if (slot.value === null || slot.value.fqdn !== null) continue;
    t.domains.delete(slot, tx);
    freed++;
  }
  return count(freed);
});

const ENDED = ['expired', 'failed', 'cancelled'];
/** Columns of an insert that a later write leaves alone. */
const FIXED = [
  ...['user_id', 'gpu_type', 'gpu_count', 'duration_hours', 'created_at', 'name', 'github_user', 'disk_id', 'disk_name'],
  ...['is_multinode', 'master_reservation_id', 'node_index', 'total_nodes', 'preserve_entrypoint', 'cli_version'],
];

twin(projection.UPSERT, (t, tx, [json, at]) => {
  const list = JSON.parse(json) as (Columns & { reservation_id: string; status: string; ended: boolean })[];
  const now = moment(at);
  for (const { ended, ...given } of list) {
    const row: Columns = { ...given, updated_at: now, state_entered_at: now, reservation_ended: ended ? now : null };
    if (ENDED.includes(given.status) !== (row['reservation_ended'] !== null)) throw new SqlError('23514', 'reservations_check');
    if (['running', 'extending'].includes(given.status) && (row['launched_at'] === null || row['expires_at'] === null)) {
      throw new SqlError('23514', 'reservations_check1: a usable server has its times');
    }
    if (t.reservations.insert(row, tx)) continue;
    const slot = t.reservations.slot(given.reservation_id)!;
    t.reservations.lock(slot, tx);
    const old = slot.value!;
    const kept = Object.fromEntries(FIXED.map((column) => [column, old[column]]));
    const entered = old['status'] === given.status ? old['state_entered_at'] : now;
    t.reservations.update(slot, { ...row, ...kept, state_entered_at: entered }, tx);
  }
  return count(list.length);
});

twin(projection.ROUTES, (t, tx, [json]) => {
  let written = 0;
  for (const { reservation_id: id, node_ip, node_port, expires_at } of JSON.parse(json)) {
    for (const slot of t.domains.all()) {
      const row = t.domains.see(slot, tx);
      if (row === null || row.reservationId !== id) continue;
      const next = { nodeIp: node_ip, nodePort: node_port, expiresAt: moment(expires_at) };
      if (row.nodeIp === next.nodeIp && row.nodePort === next.nodePort && row.expiresAt === next.expiresAt) continue;
      t.domains.lock(slot, tx);
      t.domains.update(slot, { ...slot.value!, ...next, updatedAt: tx.now }, tx);
      written++;
    }
  }
  return count(written);
});

twin(provision.READ_SECRETS, (t, tx, [ref]) => {
  const row = ref === null ? null : t.secrets.get(ref, tx);
  return rows(row === null ? [] : [{ value: row.value }]);
});

twin(provision.WHAT_TO_CREATE, (t, tx, [actor, node]) => {
  const row = t.actors.get(actor, tx);
  if (row === null) return rows([]);
  const request = (row.snapshot?.context as { request?: { secretsRef: string | null; gpuType: string } } | undefined)?.request;
  const secret = request?.secretsRef == null ? null : t.secrets.get(request.secretsRef, tx);
  const offered = request === undefined ? null : t.gpuTypes.get(request.gpuType, tx);
  let type: Columns | null = null;
  if (offered?.isActive === true) {
    const { gpuType, instanceType, resourceName, maxGpus, maxPerNode, cpus, memoryGb, efaCount } = offered;
    type = { gpuType, instanceType, resourceName, maxGpus, maxPerNode, cpus, memoryGb, efaCount };
  }
  const place = t.nodes.get(node, tx);
  return rows([
    {
      snapshot: row.snapshot,
      secrets: secret?.value ?? null,
      address: place?.address ?? null,
      nodeCpuMillis: place?.cpuMillis ?? null,
      nodeMemoryBytes: place?.memoryBytes ?? null,
      type,
    },
  ]);
});

twin(NODE_READY, (t, tx, [node]) => {
  const row = t.nodes.get(node, tx);
  return rows(row === null ? [] : [{ ready: row.ready }]);
});
