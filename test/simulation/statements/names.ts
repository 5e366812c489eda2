/** Twins of what publishes names and ways to Jupyter. */
import { LEAVE_NAMES } from '../../../actors/reservation/names.ts';
import * as names from '../../../actors/reservation/published-names.ts';
import * as routes from '../../../actors/reservation/routes.ts';
import type { DomainRow, RouteRow, Tables } from '../store/schema.ts';
import { count, rows, twin } from '../store/statement.ts';
import { SqlError, type Slot, type Tx } from '../store/tables.ts';

/** Names of these reservations that the transaction sees, and may change where `wanted`; a locked row is looked at anew. */
function change(
  t: Tables,
  tx: Tx,
  ids: readonly string[],
  wanted: (row: DomainRow) => boolean,
  made: (row: DomainRow) => DomainRow | null,
) {
  let changed = 0;
  for (const slot of t.domains.all()) {
    const seen = t.domains.see(slot, tx);
    if (seen === null || !ids.includes(seen.reservationId) || !wanted(seen)) continue;
    t.domains.lock(slot, tx);
    const row = slot.value;
    if (row === null || !wanted(row)) continue;
    const next = made(row);
    if (next === null) t.domains.delete(slot, tx);
    else t.domains.update(slot, next, tx);
    changed++;
  }
  return count(changed);
}

twin(LEAVE_NAMES, (t, tx, [ids]) =>
  change(
    t,
    tx,
    ids,
    (row) => row.freedAt === null,
    (row) => ({ ...row, freedAt: tx.now, updatedAt: tx.now }),
  ),
);

twin(names.READ_NAME, (t, tx, [id]) => {
  const found = [...t.domains.rows(tx)].filter((row) => row.reservationId === id);
  return rows(found.map(({ fqdn, zone }) => ({ fqdn, zone })));
});

twin(names.ASK_NAME, (t, tx, [id, fqdn, zone]) => {
  const isTaken = [...t.domains.rows(tx)].some((row) => row.reservationId !== id && row.fqdn === fqdn && row.zone === zone);
  const wanted = (row: DomainRow) => row.freedAt === null && (row.zone === null || (row.fqdn === fqdn && row.zone === zone));
  return change(t, tx, [id], wanted, (row) => {
    if (isTaken) throw new SqlError('23505', 'domain_mappings_fqdn');
    return { ...row, fqdn, zone, publishedAt: null, updatedAt: tx.now };
  });
});

twin(names.NAME_PUBLISHED, (t, tx, [id, fqdn]) =>
  change(
    t,
    tx,
    [id],
    (row) => row.fqdn === fqdn,
    (row) => ({ ...row, publishedAt: tx.now, problem: null, updatedAt: tx.now }),
  ),
);

twin(names.NAME_PROBLEM, (t, tx, [id, problem]) =>
  change(
    t,
    tx,
    [id],
    () => true,
    (row) => ({ ...row, problem, updatedAt: tx.now }),
  ),
);

twin(names.NAME_GONE, (t, tx, [id, fqdn]) =>
  change(
    t,
    tx,
    [id],
    (row) => row.fqdn === fqdn,
    (row) => ({ ...row, fqdn: null, zone: null, publishedAt: null, problem: null, updatedAt: tx.now }),
  ),
);

twin(names.DROP_FREED_NAME, (t, tx, [id]) =>
  change(
    t,
    tx,
    [id],
    (row) => row.freedAt !== null && row.fqdn === null,
    () => null,
  ),
);

twin(routes.READ_ROUTE, (t, tx, [id]) => {
  const row = t.routes.get(id, tx);
  return rows(row === null ? [] : [{ load_balancer: row.loadBalancer, place: row.place, jupyter_rule_arn: row.rule }]);
});

twin(routes.ASK_ROUTE, (t, tx, [reservationId, domainName, loadBalancer, node, nodePort]) => {
  const fresh = { place: null, targetGroup: null, rule: null, problem: null };
  const asked = { reservationId, domainName, loadBalancer, node, nodePort, publishedAt: null, updatedAt: tx.now };
  if (t.routes.insert({ ...fresh, ...asked }, tx)) return count(1);
  const slot = t.routes.slot(reservationId)!;
  t.routes.lock(slot, tx);
  const row = slot.value!;
  if (row.loadBalancer !== '' && row.loadBalancer !== loadBalancer) return count(0);
  const place = takenByOther(t, tx, { ...row, loadBalancer });
  if (place) throw new SqlError('23505', 'alb_target_groups_place');
  t.routes.update(slot, { ...row, ...asked }, tx);
  return count(1);
});

function takenByOther(t: Tables, tx: Tx, { reservationId, loadBalancer, place }: RouteRow): boolean {
  if (place === null) return false;
  return [...t.routes.rows(tx)].some(
    (row) => row.reservationId !== reservationId && row.loadBalancer === loadBalancer && row.place === place,
  );
}

twin(routes.TAKE_PLACE, (t, tx, [id, first, last, taken]) => {
  const slot = t.routes.slot(id);
  if (slot === undefined || t.routes.see(slot, tx) === null) return rows([]);
  t.routes.lock(slot, tx);
  const row = slot.value!;
  const held = new Set([...t.routes.rows(tx)].flatMap((other) => (other.loadBalancer === row.loadBalancer ? [other.place] : [])));
  let place: number | null = null;
  for (let free = first; free <= last && place === null; free++) if (!taken.includes(free) && !held.has(free)) place = free;
  t.routes.update(slot, { ...row, place, updatedAt: tx.now }, tx);
  return rows([{ place }]);
});

function ofRoute(t: Tables, tx: Tx, id: string, made: (row: RouteRow) => RouteRow | null) {
  const slot: Slot<RouteRow> | undefined = t.routes.slot(id);
  if (slot === undefined || t.routes.see(slot, tx) === null) return count(0);
  t.routes.lock(slot, tx);
  if (slot.value === null) return count(0);
  const next = made(slot.value);
  if (next === null) t.routes.delete(slot, tx);
  else t.routes.update(slot, next, tx);
  return count(1);
}

twin(routes.ROUTE_PUBLISHED, (t, tx, [id, targetGroup, rule]) =>
  ofRoute(t, tx, id, (row) => ({ ...row, targetGroup, rule, publishedAt: tx.now, problem: null, updatedAt: tx.now })),
);

twin(routes.ROUTE_PROBLEM, (t, tx, [id, problem]) => ofRoute(t, tx, id, (row) => ({ ...row, problem, updatedAt: tx.now })));

twin(routes.ROUTE_GONE, (t, tx, [id]) => ofRoute(t, tx, id, () => null));
