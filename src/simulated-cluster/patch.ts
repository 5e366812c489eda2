import { ApiError, badRequest } from './errors.ts';
import type { Loose } from './types.ts';

const isMap = (value: Loose): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);

/** RFC 7386. */
export function mergePatch(target: Loose, patch: Loose): Loose {
  if (!isMap(patch)) return patch;
  const result: Loose = isMap(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

/** RFC 6902; 422 when a test fails or a path is missing, as the API server answers. */
export function jsonPatch(target: Loose, operations: Loose): Loose {
  if (!Array.isArray(operations)) throw badRequest('a JSON patch must be a list of operations');
  const root = { value: structuredClone(target) };
  for (const operation of operations) applyOperation(root, operation);
  return root.value;
}

const refused = (why: string): ApiError =>
  new ApiError(422, 'Invalid', `the server rejected our request due to an error in our request: ${why}`);

function pointer(path: Loose): string[] {
  if (path === '') return [];
  if (typeof path !== 'string' || !path.startsWith('/')) throw refused(`bad path ${JSON.stringify(path)}`);
  return path
    .slice(1)
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function read(root: Loose, path: string[]): Loose {
  let at = root.value;
  for (const part of path) {
    if (typeof at !== 'object' || at === null || !(part in at)) throw refused(`path /${path.join('/')} does not exist`);
    at = at[part];
  }
  return at;
}

function write(root: Loose, path: string[], value: Loose, how: 'add' | 'replace' | 'remove'): void {
  const last = path[path.length - 1];
  if (last === undefined) {
    root.value = value;
    return;
  }
  const parent = read(root, path.slice(0, -1));
  if (Array.isArray(parent)) {
    const index = last === '-' && how === 'add' ? parent.length : Number(last);
    const limit = how === 'add' ? parent.length : parent.length - 1;
    if (!Number.isInteger(index) || index < 0 || index > limit) throw refused(`index ${last} is out of bounds`);
    if (how === 'add') parent.splice(index, 0, value);
    else if (how === 'replace') parent[index] = value;
    else parent.splice(index, 1);
    return;
  }
  if (typeof parent !== 'object' || parent === null) throw refused(`path /${path.join('/')} does not exist`);
  if (how !== 'add' && !(last in parent)) throw refused(`path /${path.join('/')} does not exist`);
  if (how === 'remove') delete parent[last];
  else parent[last] = value;
}

function same(a: Loose, b: Loose): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a)) {
    if (!Array.isArray(b) || a.length !== b.length) return false;
    for (let index = 0; index < a.length; index++) if (!same(a[index], b[index])) return false;
    return true;
  }
  if (Array.isArray(b)) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  for (const key of keys) if (!(key in b && same(a[key], b[key]))) return false;
  return true;
}

/** Whether two JSON values are equal, whatever the order of keys. */
export const sameJson = same;

function applyOperation(root: Loose, operation: Loose): void {
  const path = pointer(operation?.path);
  switch (operation?.op) {
    case 'add':
    case 'replace':
      write(root, path, structuredClone(operation.value), operation.op);
      return;
    case 'remove':
      write(root, path, undefined, 'remove');
      return;
    case 'test':
      if (!same(read(root, path), operation.value)) throw refused(`testing path ${operation.path} failed`);
      return;
    case 'move':
    case 'copy': {
      const from = pointer(operation.from);
      const value = structuredClone(read(root, from));
      if (operation.op === 'move') write(root, from, undefined, 'remove');
      write(root, path, value, 'add');
      return;
    }
    default:
      throw refused(`unexpected kind of operation: ${JSON.stringify(operation?.op)}`);
  }
}
