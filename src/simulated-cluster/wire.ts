import type { KubeObject, Loose } from './types.ts';

const cache = new WeakMap<object, string>();
const specs = new WeakMap<object, string>();

/** The JSON of a stored object, made once: stored objects never change, and journal, lists and watches all send the same. */
export function objectJson(object: KubeObject): string {
  let text = cache.get(object);
  if (text === undefined) {
    const parts: string[] = [];
    for (const [name, value] of Object.entries(object)) {
      const part = name === 'spec' && typeof value === 'object' && value !== null ? specJson(value) : JSON.stringify(value);
      if (part !== undefined) parts.push(`${JSON.stringify(name)}:${part}`);
    }
    text = `{${parts.join(',')}}`;
    cache.set(object, text);
  }
  return text;
}

/** Most of a pod is its spec, and most of its versions share one. */
function specJson(spec: object): string {
  let text = specs.get(spec);
  if (text === undefined) {
    text = JSON.stringify(spec);
    specs.set(spec, text);
  }
  return text;
}

/** The JSON of a response; the items of a list come from the cache. */
export function bodyJson(body: Loose): string {
  if (
    Array.isArray(body?.items) &&
    typeof body.kind === 'string' &&
    body.kind.endsWith('List') &&
    body.kind !== 'PartialObjectMetadataList'
  ) {
    const { items, ...head } = body;
    const text = JSON.stringify(head);
    return `${text.slice(0, -1)},"items":[${items.map(objectJson).join(',')}]}`;
  }
  return body?.metadata?.uid !== undefined && body.metadata.resourceVersion !== undefined
    ? objectJson(body)
    : JSON.stringify(body);
}
