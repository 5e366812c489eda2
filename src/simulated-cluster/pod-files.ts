import { listFiles, readFile, removeFile, tree, writeFile } from './trees.ts';
import type { KubeObject, Loose } from './types.ts';
import type { World } from './world.ts';

interface Place {
  /** The tree a path lies in, and the path inside it. */
  tree?: string;
  path: string;
  /** For mounted Secrets and ConfigMaps: their files as they are now. */
  fixed?: Record<string, string>;
}

/** The file system one container sees: its own files, its volumes, and mounted Secrets and ConfigMaps as they are now. */
export class PodFiles {
  private readonly world: World;
  private readonly pod: KubeObject;
  private readonly mounts: { path: string; volume: Loose; subPath: string }[];
  private readonly own: string;

  constructor(world: World, pod: KubeObject, container: string) {
    this.world = world;
    this.pod = pod;
    this.own = tree.pod(pod.metadata.uid, container);
    const spec = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])].find((each: Loose) => each.name === container);
    this.mounts = (spec?.volumeMounts ?? [])
      .map((mount: Loose) => ({
        path: normalize(mount.mountPath),
        volume: (pod.spec.volumes ?? []).find((each: Loose) => each.name === mount.name),
        subPath: mount.subPath ?? '',
      }))
      .sort((a: { path: string }, b: { path: string }) => b.path.length - a.path.length);
  }

  /** The text of a file; undefined when there is none. */
  read(path: string): string | undefined {
    const place = this.place(normalize(path));
    if (place.fixed !== undefined) return place.fixed[place.path.slice(1)];
    return readFile(this.world, place.tree ?? '', place.path)?.text;
  }

  /** Writes a file; folders need not exist. False where the mount is read-only. */
  write(path: string, text: string): boolean {
    const place = this.place(normalize(path));
    if (place.tree === undefined) return false;
    if (place.tree.startsWith('pod/')) this.world.store.side.set(`trees:${this.pod.metadata.uid}`, place.tree, true);
    writeFile(this.world, place.tree, place.path, text);
    return true;
  }

  /** Removes a file, or all files below a folder when `deep`. How many went. */
  remove(path: string, deep: boolean): number {
    const clean = normalize(path);
    const doomed = [...(this.read(clean) === undefined ? [] : [clean]), ...(deep ? this.below(clean) : [])];
    for (const each of doomed) {
      const place = this.place(each);
      if (place.tree !== undefined) removeFile(this.world, place.tree, place.path);
    }
    return doomed.length;
  }

  /** Whether files or mounts lie below this path. */
  isFolder(path: string): boolean {
    const clean = normalize(path);
    const prefix = clean === '/' ? '/' : `${clean}/`;
    return (
      clean === '/' ||
      this.mounts.some((mount) => mount.path === clean || mount.path.startsWith(prefix)) ||
      this.below(clean).length > 0
    );
  }

  /** Full paths of all files below a folder. */
  below(folder: string): string[] {
    const prefix = normalize(folder) === '/' ? '/' : `${normalize(folder)}/`;
    const all = new Set<string>();
    const add = (base: string, names: string[]): void => {
      for (const name of names) all.add(normalize(`${base}/${name}`));
    };
    add('/', listFiles(this.world, this.own));
    for (const mount of this.mounts) {
      const place = this.place(mount.path);
      if (place.fixed !== undefined) add(mount.path, Object.keys(place.fixed));
      else {
        const inside = place.path === '/' ? '/' : `${place.path}/`;
        const names = listFiles(this.world, place.tree ?? '').filter((name) => name.startsWith(inside));
        add(
          mount.path,
          names.map((name) => name.slice(inside.length)),
        );
      }
    }
    return [...all].filter((path) => path.startsWith(prefix)).sort();
  }

  private place(path: string): Place {
    for (const mount of this.mounts) {
      if (path !== mount.path && !path.startsWith(mount.path === '/' ? '/' : `${mount.path}/`)) continue;
      const rest = normalize(`/${mount.subPath}/${path.slice(mount.path.length)}`);
      return this.inVolume(mount.volume, rest);
    }
    return { tree: this.own, path };
  }

  private inVolume(volume: Loose, path: string): Place {
    const { namespace, uid } = this.pod.metadata;
    if (volume?.secret || volume?.configMap || volume?.projected) {
      const sources: Loose[] = volume.projected?.sources ?? [volume];
      return { path, fixed: Object.assign({}, ...sources.map((source) => this.projection(source))) };
    }
    const claim: string | undefined = volume?.persistentVolumeClaim?.claimName;
    if (claim !== undefined) {
      const name = this.world.get('persistentvolumeclaims', `${namespace}/${claim}`)?.spec.volumeName ?? `unbound-${claim}`;
      return { tree: tree.volume(name), path };
    }
    return { tree: tree.pod(uid, `volume-${volume?.name}`), path };
  }

  private projection(source: Loose): Record<string, string> {
    const { namespace } = this.pod.metadata;
    const secret = source.secret && this.world.get('secrets', `${namespace}/${source.secret.secretName ?? source.secret.name}`);
    const map = source.configMap && this.world.get('configmaps', `${namespace}/${source.configMap.name}`);
    const decoded = (data: Record<string, string> | undefined): Record<string, string> =>
      Object.fromEntries(Object.entries(data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64').toString('utf8')]));
    const all = { ...decoded(secret?.data), ...map?.data, ...decoded(map?.binaryData) };
    const items: Loose[] | undefined = source.secret?.items ?? source.configMap?.items;
    if (items === undefined) return all;
    return Object.fromEntries(items.filter((item) => item.key in all).map((item) => [item.path, all[item.key]]));
  }
}

/** An absolute path without . and .. and doubled slashes. */
export function normalize(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `/${parts.join('/')}`;
}
