import { apiVersionOf, type Resource } from '../resources.ts';
import type { ApiRequest, KubeObject, Loose } from '../types.ts';
import type { World } from '../world.ts';
import { tableOf } from './tables.ts';

export type Format = 'json' | 'table' | 'metadata';

/** What an Accept header asks for; plain JSON unless it names Table or PartialObjectMetadata first. */
export function formatOf(accept: string | undefined): Format {
  for (const choice of (accept ?? '').split(',')) {
    const kind = /;\s*as=([A-Za-z]+)/.exec(choice)?.[1];
    if (kind === 'Table') return 'table';
    if (kind === 'PartialObjectMetadata' || kind === 'PartialObjectMetadataList') return 'metadata';
    if (kind === undefined && /json|\*\/\*/.test(choice) && !/g=/.test(choice)) return 'json';
  }
  return 'json';
}

interface List {
  metadata: Loose;
  items: KubeObject[];
}

const isList = (value: KubeObject | List): value is List => Array.isArray((value as List).items) && !('kind' in value);

/** An object or a list as the request wants it shown. */
export function inFormat(world: World, request: ApiRequest, resource: Resource, value: KubeObject | List): Loose {
  const format = formatOf(request.accept);
  if (format === 'table') {
    const include = request.query?.includeObject;
    return isList(value)
      ? tableOf(resource, value.items, value.metadata, world.store.now, include)
      : tableOf(resource, [value], { resourceVersion: value.metadata.resourceVersion }, world.store.now, include);
  }
  if (format === 'metadata') {
    if (!isList(value)) return metadataOnly(value);
    const items = value.items.map(metadataOnly);
    return { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1', metadata: value.metadata, items };
  }
  if (!isList(value)) return value;
  return { kind: `${resource.kind}List`, apiVersion: apiVersionOf(resource), metadata: value.metadata, items: value.items };
}

export function metadataOnly(object: KubeObject): Loose {
  return { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata };
}
