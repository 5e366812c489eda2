import { unsupportedMedia } from './errors.ts';
import type { Loose } from './types.ts';

export const PROTOBUF = 'application/vnd.kubernetes.protobuf';

/** How a field is read: a scalar, a map, or a message by its own fields; `[]` marks a list. */
type Kind = 'string' | 'bytes' | 'int' | 'bool' | 'map' | 'bytes-map' | 'int-or-string' | Fields;
type Field = [name: string, kind: Kind, list?: '[]'];
type Fields = { [number: number]: Field };

const META: Fields = {
  1: ['name', 'string'],
  2: ['generateName', 'string'],
  3: ['namespace', 'string'],
  11: ['labels', 'map'],
  12: ['annotations', 'map'],
  13: [
    'ownerReferences',
    {
      1: ['kind', 'string'],
      3: ['name', 'string'],
      4: ['uid', 'string'],
      5: ['apiVersion', 'string'],
      6: ['controller', 'bool'],
      7: ['blockOwnerDeletion', 'bool'],
    },
    '[]',
  ],
  14: ['finalizers', 'string', '[]'],
};
const DELETE_OPTIONS: Fields = {
  1: ['gracePeriodSeconds', 'int'],
  2: ['preconditions', { 1: ['uid', 'string'], 2: ['resourceVersion', 'string'] }],
  3: ['orphanDependents', 'bool'],
  4: ['propagationPolicy', 'string'],
  5: ['dryRun', 'string', '[]'],
};
const CONTAINER: Fields = {
  1: ['name', 'string'],
  2: ['image', 'string'],
  3: ['command', 'string', '[]'],
  4: ['args', 'string', '[]'],
  7: ['env', { 1: ['name', 'string'], 2: ['value', 'string'] }, '[]'],
  14: ['imagePullPolicy', 'string'],
};
const POD_TEMPLATE: Fields = {
  1: ['metadata', META],
  2: ['spec', { 2: ['containers', CONTAINER, '[]'], 3: ['restartPolicy', 'string'] }],
};
const SERVICE_PORT: Fields = {
  1: ['name', 'string'],
  2: ['protocol', 'string'],
  3: ['port', 'int'],
  4: ['targetPort', 'int-or-string'],
  5: ['nodePort', 'int'],
};

/** What `kubectl create KIND` sends this way; everything else of kubectl sends JSON. */
const MESSAGES: Record<string, Fields> = {
  Namespace: { 1: ['metadata', META] },
  ConfigMap: { 1: ['metadata', META], 2: ['data', 'map'], 3: ['binaryData', 'bytes-map'], 4: ['immutable', 'bool'] },
  Secret: {
    1: ['metadata', META],
    2: ['data', 'bytes-map'],
    3: ['type', 'string'],
    4: ['stringData', 'map'],
    5: ['immutable', 'bool'],
  },
  ServiceAccount: { 1: ['metadata', META] },
  Service: {
    1: ['metadata', META],
    2: ['spec', { 1: ['ports', SERVICE_PORT, '[]'], 2: ['selector', 'map'], 3: ['clusterIP', 'string'], 4: ['type', 'string'] }],
  },
  Job: { 1: ['metadata', META], 2: ['spec', { 6: ['template', POD_TEMPLATE], 7: ['backoffLimit', 'int'] }] },
  Eviction: { 1: ['metadata', META], 2: ['deleteOptions', DELETE_OPTIONS] },
  DeleteOptions: DELETE_OPTIONS,
};

/** Reads a body in Kubernetes' protobuf envelope. 415 for kinds that are only taken as JSON. */
export function decodeProtobuf(body: Buffer): Loose {
  if (body.length < 4 || body.toString('latin1', 0, 4) !== 'k8s\0')
    throw unsupportedMedia('the body is not a Kubernetes protobuf message');
  const envelope = read(body.subarray(4), {
    1: ['type', { 1: ['apiVersion', 'string'], 2: ['kind', 'string'] }],
    2: ['raw', 'bytes'],
  });
  const { apiVersion, kind } = envelope.type ?? {};
  const fields = MESSAGES[kind];
  if (fields === undefined) {
    throw unsupportedMedia(
      `the simulated cluster takes ${kind} as JSON only; use kubectl apply -f or kubectl create -f with a manifest`,
    );
  }
  return { apiVersion, kind, ...read(Buffer.from(envelope.raw ?? '', 'base64'), fields) };
}

function read(data: Buffer, fields: Fields): Loose {
  const message: Loose = {};
  let at = 0;
  const varint = (): number => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = data[at++] ?? 0;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(BigInt.asIntN(64, value));
    }
  };
  while (at < data.length) {
    const tag = varint();
    const wire = tag & 7;
    const field = fields[tag >> 3];
    let raw: number | Buffer;
    if (wire === 0) raw = varint();
    else if (wire === 2) {
      const length = varint();
      raw = data.subarray(at, at + length);
      at += length;
    } else {
      at += wire === 1 ? 8 : 4;
      continue;
    }
    if (field === undefined) continue;
    const [name, kind, list] = field;
    const value = decode(raw, kind);
    // The sender writes out empty strings that JSON leaves away.
    if (value === '' && !list) continue;
    if (list) message[name] = [...(message[name] ?? []), value];
    else if (kind === 'map' || kind === 'bytes-map') message[name] = { ...message[name], ...value };
    else message[name] = value;
  }
  return message;
}

function decode(raw: number | Buffer, kind: Kind): Loose {
  if (typeof raw === 'number') return kind === 'bool' ? raw === 1 : raw;
  switch (kind) {
    case 'string':
      return raw.toString('utf8');
    case 'bytes':
      return raw.toString('base64');
    case 'map':
    case 'bytes-map': {
      const entry = read(raw, { 1: ['key', 'string'], 2: ['value', kind === 'map' ? 'string' : 'bytes'] });
      return { [entry.key ?? '']: entry.value ?? '' };
    }
    case 'int-or-string': {
      const { type, number, text } = read(raw, { 1: ['type', 'int'], 2: ['number', 'int'], 3: ['text', 'string'] });
      return type === 1 ? text : number;
    }
    case 'int':
    case 'bool':
      return undefined;
    default:
      return read(raw, kind);
  }
}
