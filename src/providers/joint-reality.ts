/** What there really is, on the cluster and outside of it. */
import {
  type ClusterKind,
  type FoundObject,
  isNameKind,
  type Kind,
  type NameKind,
  type Reality,
  type ServerExtras,
} from '../../actors/reality/ports.ts';
import type { ServerRef } from '../../actors/reservation/ports.ts';

/** Where names and ways to Jupyter stand. */
export interface NameReality {
  /** Everything of this kind that is ours, or it throws; null where there is none of the kind. */
  list(kind: NameKind): Promise<FoundObject[] | null>;
  remove(object: FoundObject & { kind: NameKind }): Promise<'removed' | 'changed' | 'gone'>;
  isGone(kind: NameKind, name: string): Promise<boolean>;
}

export class JointReality implements Reality {
  readonly #cluster: Reality;
  readonly #names: NameReality | null;

  constructor(cluster: Reality, names: NameReality | null) {
    this.#cluster = cluster;
    this.#names = names;
  }

  async list(kind: Kind): Promise<FoundObject[] | null> {
    if (isNameKind(kind)) return (await this.#names?.list(kind)) ?? null;
    return this.#cluster.list(kind);
  }

  async remove(object: FoundObject): Promise<'removed' | 'changed' | 'gone'> {
    const { kind } = object;
    return isNameKind(kind) ? this.#outside(kind).remove({ ...object, kind }) : this.#cluster.remove(object);
  }

  async isGone(kind: Kind, name: string): Promise<boolean> {
    return isNameKind(kind) ? this.#outside(kind).isGone(kind, name) : this.#cluster.isGone(kind, name);
  }

  accessOf(server: ServerRef, extras: ServerExtras): { kind: ClusterKind | NameKind; name: string }[] {
    return this.#cluster.accessOf(server, extras);
  }

  podOf(server: ServerRef): string {
    return this.#cluster.podOf(server);
  }

  #outside(kind: NameKind): NameReality {
    if (this.#names === null) throw new Error(`Nobody here knows of a ${kind}`);
    return this.#names;
  }
}
