import type { KubeObject, Loose } from './types.ts';

const objects = new WeakMap<object, string>();
const parts = new WeakMap<object, string>();
/** Parts that the versions of an object mostly share, so that each is written out once for all of them. */
const SHARED = new Set(['spec', 'labels', 'annotations']);

/** The JSON of a stored object, made once: stored objects never change, and journal, lists and watches all send the same. */
export function objectJson(object: KubeObject): string {
  let text = objects.get(object);
  if (text === undefined) {
    text = byParts(object, object.metadata === undefined ? undefined : partJson(object.metadata, metadataJson));
    objects.set(object, text);
  }
  return text;
}

const metadataJson = (metadata: Loose): string => byParts(metadata, undefined);

function byParts(object: Loose, metadata: string | undefined): string {
  let text = '';
  for (const name of Object.keys(object)) {
    const value = object[name];
    const shared = SHARED.has(name) && typeof value === 'object' && value !== null;
    const part = name === 'metadata' && metadata !== undefined ? metadata : shared ? partJson(value, JSON.stringify) : JSON.stringify(value);
    if (part !== undefined) text += `${text === '' ? '{' : ','}${JSON.stringify(name)}:${part}`;
  }
  return text === '' ? '{}' : `${text}}`;
}

function partJson(part: object, write: (part: Loose) => string): string {
  let text = parts.get(part);
  if (text === undefined) {
    text = write(part);
    parts.set(part, text);
  }
  return text;
}

/** The JSON of a response; objects, and the items of a list, come from the cache. */
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
  if (body?.metadata?.uid === undefined || body.metadata.resourceVersion === undefined) return JSON.stringify(body);
  // What is shown of an object by its metadata alone is made for one answer, its metadata is not.
  return body.kind === 'PartialObjectMetadata' ? byParts(body, partJson(body.metadata, metadataJson)) : objectJson(body);
}

/** How to hand a text of `length` bytes in UTF-8 to a stream: as latin1, which is written as it is, where it is the same. */
export function encodingOf(text: string, length = Buffer.byteLength(text)): 'latin1' | 'utf8' {
  return length === text.length ? 'latin1' : 'utf8';
}
