import type { Loose } from './types.ts';

/**
 * Lists that strategic merge patches merge item by item, by the key that tells items apart. Keyed by the field's name, which is
 * unambiguous for the kinds served here except `ports` and `volumes` of other kinds, told apart by what the items hold.
 */
const MERGE_KEYS: Record<string, string[]> = {
  containers: ['name'],
  initContainers: ['name'],
  ephemeralContainers: ['name'],
  volumes: ['name'],
  env: ['name'],
  volumeMounts: ['mountPath'],
  volumeDevices: ['devicePath'],
  imagePullSecrets: ['name'],
  secrets: ['name'],
  hostAliases: ['ip'],
  conditions: ['type'],
  addresses: ['type'],
  ownerReferences: ['uid'],
  taints: ['key'],
  ports: ['containerPort', 'port'],
  topologySpreadConstraints: ['topologyKey'],
  podIPs: ['ip'],
  resourceClaims: ['name'],
};

/** Lists of plain values that are merged as sets. */
const MERGED_SETS = new Set(['finalizers', 'podCIDRs']);

const isMap = (value: Loose): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Kubernetes' strategic merge patch, with $patch, $retainKeys, $deleteFromPrimitiveList and $setElementOrder. */
export function strategicMergePatch(target: Loose, patch: Loose): Loose {
  if (!isMap(patch)) return patch;
  if (patch.$patch === 'replace') return withoutDirectives(patch);
  if (patch.$patch === 'delete') return {};
  const result: Loose = isMap(target) ? { ...target } : {};
  if (Array.isArray(patch.$retainKeys)) {
    for (const key of Object.keys(result)) if (!patch.$retainKeys.includes(key)) delete result[key];
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith('$')) {
      applyDirective(result, key, value);
      continue;
    }
    if (value === null) delete result[key];
    else if (Array.isArray(value)) result[key] = mergeList(key, result[key], value);
    else result[key] = isMap(value) ? strategicMergePatch(result[key], value) : value;
  }
  for (const [key, order] of Object.entries(patch)) {
    if (key.startsWith('$setElementOrder/')) reorder(result, key.slice('$setElementOrder/'.length), order as Loose[]);
  }
  return result;
}

function applyDirective(result: Loose, key: string, value: Loose): void {
  const primitives = '$deleteFromPrimitiveList/';
  if (!key.startsWith(primitives)) return;
  const field = key.slice(primitives.length);
  if (Array.isArray(result[field])) result[field] = result[field].filter((item: Loose) => !value.includes(item));
}

function withoutDirectives(patch: Loose): Loose {
  if (Array.isArray(patch)) return patch.filter((item) => !(isMap(item) && item.$patch !== undefined)).map(withoutDirectives);
  if (!isMap(patch)) return patch;
  return Object.fromEntries(
    Object.entries(patch)
      .filter(([key, value]) => !key.startsWith('$') && value !== null)
      .map(([key, value]) => [key, withoutDirectives(value)]),
  );
}

function mergeKeyFor(field: string, items: Loose[]): string | undefined {
  return MERGE_KEYS[field]?.find((key) => items.every((item) => !isMap(item) || key in item || item.$patch === 'replace'));
}

function mergeList(field: string, current: Loose, patch: Loose[]): Loose[] {
  const existing: Loose[] = Array.isArray(current) ? current : [];
  if (MERGED_SETS.has(field)) return ordered([...new Set([...existing, ...patch])], patch, existing, (item) => item);
  const mergeKey = mergeKeyFor(field, patch);
  if (mergeKey === undefined) return withoutDirectives(patch);
  if (patch.some((item) => isMap(item) && item.$patch === 'replace')) return withoutDirectives(patch);
  const result = [...existing];
  for (const item of patch) {
    const index = result.findIndex((candidate) => candidate?.[mergeKey] === item[mergeKey]);
    if (item.$patch === 'delete') {
      if (index >= 0) result.splice(index, 1);
    } else if (index >= 0) result[index] = strategicMergePatch(result[index], item);
    else result.push(withoutDirectives(item));
  }
  return ordered(result, patch, existing, (item) => item?.[mergeKey]);
}

/** Items keep the patch's order among themselves and the stored order towards others; new ones come first, as the API server has it. */
function ordered(merged: Loose[], patch: Loose[], existing: Loose[], identity: (item: Loose) => Loose): Loose[] {
  const stored = new Map(existing.map((item, index) => [identity(item), index]));
  const wanted = new Map(patch.map((item, index) => [identity(item), index]));
  const place = (item: Loose): number => stored.get(identity(item)) ?? -1;
  const left = merged.filter((item) => wanted.has(identity(item)));
  left.sort((a, b) => (wanted.get(identity(a)) ?? 0) - (wanted.get(identity(b)) ?? 0));
  const right = merged.filter((item) => !wanted.has(identity(item)));
  const result: Loose[] = [];
  while (left.length > 0 && right.length > 0) result.push(place(left[0]) < place(right[0]) ? left.shift() : right.shift());
  return [...result, ...left, ...right];
}

function reorder(result: Loose, field: string, order: Loose[]): void {
  const list: Loose = result[field];
  if (!Array.isArray(list)) return;
  const mergeKey = order.length > 0 && isMap(order[0]) ? mergeKeyFor(field, order) : undefined;
  const identity = (item: Loose): Loose => (mergeKey === undefined ? item : item?.[mergeKey]);
  const wanted = new Map(order.map((item, index) => [identity(item), index]));
  const rank = (item: Loose): number => wanted.get(identity(item)) ?? order.length;
  result[field] = list
    .map((item, index) => ({ item, index }))
    .sort((a, b) => rank(a.item) - rank(b.item) || a.index - b.index)
    .map(({ item }) => item);
}
