/** The manifests of deploy/kubernetes, as objects; and a check of their fields against the types of a current Kubernetes. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as kubernetes from '@kubernetes/client-node';
import { parse, parseAllDocuments } from 'yaml';

export const FOLDER = fileURLToPath(new URL('../../deploy/kubernetes/', import.meta.url));

// biome-ignore lint/suspicious/noExplicitAny: tests look at whatever field they need.
export type Manifest = any;

const read = (file: string): string => readFileSync(join(FOLDER, file), 'utf8');
const { resources } = parse(read('kustomization.yaml')) as { resources: string[] };

/** Every object of the kustomization, in its order. */
export function readManifests(): Manifest[] {
  // client-node's own reader drops fields that it does not know, which is what we look for.
  return resources.flatMap((file) => parseAllDocuments(read(file)).map((document) => document.toJS() as Manifest));
}

/** Files that the folder holds and the kustomization does not name. */
export function strayFiles(): string[] {
  return readdirSync(FOLDER).filter((file) => file !== 'kustomization.yaml' && !resources.includes(file));
}

interface Attribute {
  baseName: string;
  type: string;
}

/** Types by their name, as client-node has generated them from the OpenAPI document of a Kubernetes release. */
const TYPES = kubernetes as unknown as Record<string, { getAttributeTypeMap?: () => Attribute[] } | undefined>;

/** What is wrong with an object: unknown fields, and values of the wrong type. */
export function problemsOf(object: Manifest): string[] {
  const version = String(object.apiVersion).split('/').at(-1)!;
  const type = `${version[0]!.toUpperCase()}${version.slice(1)}${object.kind}`;
  const name = `${object.kind}/${object.metadata?.name}`;
  return TYPES[type] === undefined ? [`${name}: no such kind: ${object.apiVersion} ${object.kind}`] : check(object, type, name);
}

function check(value: unknown, type: string, at: string): string[] {
  const list = /^Array<(.*)>$/.exec(type)?.[1];
  if (list !== undefined) {
    if (!Array.isArray(value)) return [`${at}: a list is expected`];
    return value.flatMap((item, index) => check(item, list, `${at}[${index}]`));
  }
  const map = /^{ \[key: string\]: (.*); }$/.exec(type)?.[1];
  if (map !== undefined) {
    if (!isObject(value)) return [`${at}: a map is expected`];
    return Object.entries(value).flatMap(([key, item]) => check(item, map, `${at}.${key}`));
  }
  switch (type) {
    case 'string':
    case 'number':
    case 'boolean':
      return typeof value === type ? [] : [`${at}: a ${type} is expected, not ${JSON.stringify(value)}`];
    case 'IntOrString':
      return typeof value === 'number' || typeof value === 'string' ? [] : [`${at}: a number or text is expected`];
    default: {
      const attributes = TYPES[type]?.getAttributeTypeMap?.();
      if (attributes === undefined) return [`${at}: the type ${type} is unknown`];
      if (!isObject(value)) return [`${at}: an object is expected`];
      const known = new Map(attributes.map(({ baseName, type: its }) => [baseName, its]));
      return Object.entries(value).flatMap(([key, item]) => {
        const its = known.get(key);
        return its === undefined ? [`${at}.${key}: there is no such field`] : check(item, its, `${at}.${key}`);
      });
    }
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
