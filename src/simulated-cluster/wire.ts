import type { KubeObject, Loose } from './types.ts';

/** The JSON of an object, cut where its spec belongs. */
interface Pieces {
  head: string;
  spec: object | undefined;
  tail: string;
}

const objects = new WeakMap<object, Pieces>();
const parts = new WeakMap<object, string>();
/** Parts of its metadata that the versions of an object mostly share: like the spec, they are written out once for all of them. */
const SHARED = new Set(['labels', 'annotations']);

const isMap = (value: unknown): value is object => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The JSON of a stored object, made once: stored objects never change, and journal, lists and watches all send the same. */
export function objectJson(object: KubeObject): string {
  const { head, spec, tail } = piecesOf(object);
  return spec === undefined ? head : `${head}${partJson(spec, JSON.stringify)}${tail}`;
}

/** As objectJson, with 0 for the spec, where there is one: for those who have it already. */
export function objectJsonButSpec(object: KubeObject): string {
  const { head, spec, tail } = piecesOf(object);
  return spec === undefined ? head : `${head}0${tail}`;
}

function piecesOf(object: KubeObject): Pieces {
  let pieces = objects.get(object);
  if (pieces === undefined) {
    pieces = { head: '', spec: undefined, tail: '' };
    let text = '';
    for (const name of Object.keys(object)) {
      const value = object[name];
      let known: string | undefined;
      if (name === 'metadata') known = partJson(value, metadataJson);
      else if (name === 'data' && isMap(value)) known = membersJson(value);
      if (name === 'spec' && isMap(value)) {
        pieces.head = `${text}${text === '' ? '{' : ','}"spec":`;
        pieces.spec = value;
        text = pieces.head;
      } else text = withMember(text, name, value, known);
    }
    if (pieces.spec === undefined) pieces.head = `${text}}`;
    else pieces.tail = `${text.slice(pieces.head.length)}}`;
    objects.set(object, pieces);
  }
  return pieces;
}

/** The JSON of metadata; of what its versions share only the annotations are long. */
const metadataJson = (metadata: Loose): string =>
  metadata.annotations === undefined ? JSON.stringify(metadata) : membersJson(metadata);

/** The JSON of an object, member by member. */
function membersJson(object: Loose): string {
  let text = '';
  for (const name of Object.keys(object)) {
    const value = object[name];
    text = withMember(text, name, value, SHARED.has(name) && isMap(value) ? partJson(value, JSON.stringify) : undefined);
  }
  return text === '' ? '{}' : `${text}}`;
}

/** How many characters make a text worth remembering, how many make it too much, and how many texts are remembered. */
const LONG = 1_000;
const TOO_LONG = 50_000;
const LONG_TEXTS = 100;
const longTexts = new Map<string, string>();

/** As JSON.stringify. Long texts are written out once: many objects carry the same ones, such as scripts. */
function valueJson(value: unknown): string | undefined {
  if (typeof value === 'string' && value.length > LONG && value.length < TOO_LONG) {
    let text = longTexts.get(value);
    if (text === undefined) {
      text = JSON.stringify(value);
      if (longTexts.size >= LONG_TEXTS) longTexts.clear();
      longTexts.set(value, text);
    }
    return text;
  }
  return JSON.stringify(value);
}

function withMember(text: string, name: string, value: unknown, known: string | undefined): string {
  const json = known ?? valueJson(value);
  return json === undefined ? text : `${text}${text === '' ? '{' : ','}${JSON.stringify(name)}:${json}`;
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
  if (body.kind !== 'PartialObjectMetadata') return objectJson(body);
  return `{"kind":"PartialObjectMetadata","apiVersion":${JSON.stringify(body.apiVersion)},"metadata":${partJson(body.metadata, metadataJson)}}`;
}

/** How to hand a text of `length` bytes in UTF-8 to a stream: as latin1, which is written as it is, where it is the same. */
export function encodingOf(text: string, length = Buffer.byteLength(text)): 'latin1' | 'utf8' {
  return length === text.length ? 'latin1' : 'utf8';
}
