// What the service has told so far, by kind of thing, so that requests find something there.
import type { Endpoint } from './requests.ts';

/** What the parameter behind a segment of a path names. */
const KINDS: Record<string, string> = {
  reservations: 'reservation',
  jobs: 'reservation',
  disks: 'disk',
  operations: 'operation',
  keys: 'key',
  users: 'user',
  quotas: 'name',
  collaborators: 'name',
  'dead-letters': 'letter',
  nodes: 'node',
  maintenance: 'gpuType',
  machines: 'machine',
  states: 'state',
  reconciliations: 'reconciliation',
  verifications: 'verification',
};
/** Fields whose values name things of a kind, whoever tells of them. */
const FIELDS: Record<string, string> = {
  job_id: 'reservation',
  reservation_id: 'reservation',
  disk_name: 'disk',
  operation_id: 'operation',
  key_id: 'key',
  user_id: 'user',
  node: 'node',
  snapshot_id: 'snapshot',
  next_cursor: 'cursor',
  cursor: 'cursor',
  effect_id: 'effect',
  actor: 'actor',
};
const MOST = 30;

export class Known {
  readonly #values = new Map<string, string[]>([
    ['disk', ['default', 'data', 'other']],
    ['name', ['ann', 'bob', 'operator', '*']],
    ['gpuType', ['h100', 't4', 'cpu-x86', 'a100']],
    ['machine', ['reservation', 'gpu-pool', 'disk', 'image', 'reservation.json']],
    ['state', ['queued', 'running', 'provisioning.creating']],
    ['node', ['h100-1', 't4-1']],
  ]);

  /** Values of a kind, the oldest first; of all kinds for one that nobody knows. */
  of(kind: string): readonly string[] {
    return this.#values.get(kind) ?? [...this.#values.values()].flat();
  }

  /** Values for a field of a body or a query. */
  readonly told = (name: string): readonly string[] => this.of(FIELDS[name] ?? (name === 'gpu_type' ? 'gpuType' : name));

  /** Values for a parameter in the path of this endpoint. */
  forPath({ path }: Endpoint, name: string): readonly string[] {
    const parts = path.split('/');
    return this.of(KINDS[parts[parts.indexOf(`{${name}}`) - 1] ?? ''] ?? name);
  }

  /** Remember what an answer tells. */
  learn({ path }: Endpoint, payload: string): void {
    const own = KINDS[path.split('/').findLast((part) => KINDS[part] !== undefined) ?? ''];
    for (const [, field, text, digits] of payload.matchAll(/"(\w+)":(?:"([^"\\]{1,200})"|(\d{1,15}))/g)) {
      const kind = FIELDS[field!] ?? (field === 'id' || field === 'name' ? own : undefined);
      if (kind !== undefined) this.#add(kind, (text ?? digits)!);
    }
  }

  #add(kind: string, value: string): void {
    const values = this.#values.get(kind) ?? [];
    this.#values.set(kind, values);
    if (values.includes(value)) return;
    values.push(value);
    if (values.length > MOST) values.splice(4, 1);
  }
}
