/**
 * Nothing runs in simulated containers. Programs whose work others look for afterwards are written again here, as far as it can be seen from
 * outside: at the start of a container half of the work is done, at its end the other half, so that one that is killed leaves half of it.
 */
import { knob } from './annotations.ts';
import { appendLog } from './controllers/runtime.ts';
import { copyFile, listFiles, readFile, removeFile, tree, writeFile } from './trees.ts';
import type { KubeObject, Loose } from './types.ts';
import type { World } from './world.ts';

export interface Program {
  begin(): void;
  finish(): { exitCode: number; message?: string };
}

/** The program of a container, if it is one of those. */
export function programOf(world: World, pod: KubeObject, container: Loose): Program | undefined {
  const [, script, mode] = (container.command ?? []) as string[];
  if (script?.endsWith('/build.sh') && mode === 'build') return buildOf(pod);
  if (!script?.endsWith('/copy.sh') || (mode !== 'save' && mode !== 'fill')) return undefined;
  const source = volumeAt(world, pod, container, '/source');
  const target = volumeAt(world, pod, container, '/target');
  const snapshot: string | undefined = container.env?.find((each: Loose) => each.name === 'SNAPSHOT')?.value;
  if (source === undefined || target === undefined || snapshot === undefined) return undefined;
  const tell = (text: string): void => appendLog(world, pod.metadata.uid, container.name, text);
  return new Copy(world, { mode, source, target, snapshot, run: pod.metadata.uid, tell });
}

/** The script that builds an image tells the digest of what it pushed: providers/local/build-scripts/build.sh. */
function buildOf(pod: KubeObject): Program {
  const message = knob(pod, 'termination-message') ?? `sha256:${pod.metadata.uid.replaceAll('-', '').repeat(2)}`;
  return { begin: () => undefined, finish: () => ({ exitCode: 0, ...(message === '' ? {} : { message }) }) };
}

/** The files of the claim that is mounted there. */
function volumeAt(world: World, pod: KubeObject, container: Loose, mountPath: string): string | undefined {
  const mount = (container.volumeMounts ?? []).find((each: Loose) => each.mountPath === mountPath);
  const volume = (pod.spec.volumes ?? []).find((each: Loose) => each.name === mount?.name);
  const claim: string | undefined = volume?.persistentVolumeClaim?.claimName;
  const name = world.get('persistentvolumeclaims', `${pod.metadata.namespace}/${claim}`)?.spec.volumeName;
  return name === undefined ? undefined : tree.volume(name);
}

const MARK = '/.gpu-dev-copy';

interface CopyOptions {
  mode: 'save' | 'fill';
  source: string;
  target: string;
  snapshot: string;
  run: string;
  tell: (text: string) => void;
}

/** The script that copies one volume into another: see providers/local/copy-scripts/copy.sh. Each try copies into a folder of its own. */
class Copy implements Program {
  private readonly world: World;
  private readonly options: CopyOptions;

  constructor(world: World, options: CopyOptions) {
    this.world = world;
    this.options = options;
  }

  begin(): void {
    if (this.refusal() !== undefined || this.isComplete()) return;
    const { target, tell } = this.options;
    for (const path of listFiles(this.world, target)) removeFile(this.world, target, path);
    this.mark('copying');
    const paths = this.paths();
    for (const path of paths.slice(0, Math.floor(paths.length / 2))) this.copy(path);
    tell('progress 50');
  }

  finish(): { exitCode: number; message?: string } {
    const refusal = this.refusal();
    if (refusal !== undefined) return refusal;
    if (this.isComplete()) return { exitCode: 0 };
    const { mode, target } = this.options;
    for (const path of this.paths()) this.copy(path);
    if (mode === 'fill') this.moveToPlace(target);
    this.mark('complete');
    return { exitCode: 0 };
  }

  private moveToPlace(target: string): void {
    for (const path of listFiles(this.world, target)) {
      if (!path.startsWith(this.staging)) continue;
      copyFile(this.world, target, path, target, path.slice(this.staging.length));
      removeFile(this.world, target, path);
    }
  }

  private get staging(): string {
    return `${MARK}.${this.options.run}`;
  }

  private markOf(volume: string): string[] {
    return (readFile(this.world, volume, MARK)?.text ?? '').trim().split(' ');
  }

  private mark(state: string): void {
    const { target, snapshot, run } = this.options;
    writeFile(this.world, target, MARK, `${state} ${snapshot} ${run}\n`);
  }

  private isComplete(): boolean {
    return this.markOf(this.options.target)[0] === 'complete';
  }

  private refusal(): { exitCode: number; message: string } | undefined {
    const { mode, source, target, snapshot } = this.options;
    const from = this.markOf(source);
    if (mode === 'fill' && (from[0] !== 'complete' || from[1] !== snapshot)) {
      return { exitCode: 55, message: `The copy ${snapshot} is not complete; nothing was restored from it` };
    }
    const [state, other] = this.markOf(target);
    if (state === '' && listFiles(this.world, target).length > 0) {
      return { exitCode: 50, message: 'The new volume holds data that is not of this copy; it was left as it is' };
    }
    if (state === '' || other === snapshot) return undefined;
    return { exitCode: 51, message: `The new volume holds another copy (${other}); it was left as it is` };
  }

  /** Where the data is in the source: in a copy, in the folder that its mark names. */
  private get root(): string {
    const { mode, source } = this.options;
    return mode === 'fill' ? `${MARK}.${this.markOf(source)[2]}` : '';
  }

  private paths(): string[] {
    const { root } = this;
    const paths = listFiles(this.world, this.options.source).filter((path) => path.startsWith(`${root}/`));
    return paths.map((path) => path.slice(root.length)).filter((path) => path !== MARK);
  }

  private copy(path: string): void {
    const { source, target } = this.options;
    copyFile(this.world, source, `${this.root}${path}`, target, `${this.staging}${path}`);
  }
}
