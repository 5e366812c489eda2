import {
  closeSync,
  fdatasync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { RESOURCES } from './resources.ts';
import type { Store } from './store.ts';
import type { Commit, KubeObject, SideOperation, StoreEvent } from './types.ts';
import { objectJson, objectJsonButSpec } from './wire.ts';

/** A journal this long, and longer than the snapshot it follows, is folded into a new one: so folding costs no more than writing did. */
const FOLD_AFTER = 64 * 1024 * 1024;
const SYNC_EVERY = 200;
const CHUNK = 500;

type SnapshotLine =
  | { head: { now: number; version: number; random: number[] } }
  | { resource: string; object: KubeObject }
  | { side: SideOperation };

/**
 * The cluster on disk: numbered snapshots, and for each a journal of the commits after it. A commit is handed to the kernel before its
 * call returns, so it survives kill -9 of this process; it is synced to the disk within a fifth of a second.
 */
export class Journal {
  private readonly directory: string;
  private generation = 0;
  private file = -1;
  private written = 0;
  private snapshotSize = 0;
  private dirty = false;
  private folding = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(directory: string) {
    this.directory = directory;
    mkdirSync(directory, { recursive: true });
  }

  /** Reads what is on disk into `store`; false when there is nothing. A torn last line, as a crash leaves it, is left out. */
  load(store: Store): boolean {
    const numbers = (prefix: string): number[] =>
      readdirSync(this.directory)
        .map((name) => new RegExp(`^${prefix}-(\\d+)\\.jsonl$`).exec(name)?.[1])
        .filter((text) => text !== undefined)
        .map(Number)
        .sort((a, b) => a - b);
    const snapshot = numbers('snapshot').pop();
    const journals = numbers('journal').filter((number) => number >= (snapshot ?? 0));
    this.generation = journals[journals.length - 1] ?? snapshot ?? 0;
    if (snapshot !== undefined) {
      this.snapshotSize = statSync(this.path(`snapshot-${snapshot}.jsonl`)).size;
      for (const line of this.lines(`snapshot-${snapshot}.jsonl`)) restoreLine(store, JSON.parse(line) as SnapshotLine);
    }
    store.startLogHere();
    let commits = 0;
    for (const number of journals) {
      for (const line of this.lines(`journal-${number}.jsonl`)) {
        store.replay(JSON.parse(line) as Commit);
        commits++;
      }
    }
    return snapshot !== undefined || commits > 0;
  }

  /** Opens the journal for writing. To be called after load. */
  open(store: Store): void {
    this.file = openSync(this.path(`journal-${this.generation}.jsonl`), 'a');
    this.written = fstatSync(this.file).size;
    this.timer = setInterval(() => {
      this.sync();
      if (this.written > Math.max(FOLD_AFTER, this.snapshotSize) && !this.folding) void this.fold(store);
    }, SYNC_EVERY);
    this.timer.unref();
  }

  /** Writes one commit. */
  append(commit: Commit): void {
    const events = commit.events.map(eventJson).join(',');
    const { now, version, random, side } = commit;
    const head = JSON.stringify({ now, version, random, side });
    this.written += writeAll(this.file, `${head.slice(0, -1)},"events":[${events}]}\n`);
    this.dirty = true;
  }

  close(): void {
    clearInterval(this.timer);
    if (this.file < 0) return;
    fsyncSync(this.file);
    closeSync(this.file);
    this.file = -1;
  }

  /** Starts a new journal and writes the snapshot it follows, a piece at a time; then the older files go. */
  async fold(store: Store): Promise<void> {
    this.folding = true;
    try {
      const number = this.generation + 1;
      // All references are taken at once; what changes later goes to the new journal.
      const lines = snapshotOf(store);
      const next = openSync(this.path(`journal-${number}.jsonl`), 'a');
      const previous = this.file;
      this.file = next;
      this.generation = number;
      this.written = 0;
      closeSync(previous);
      const temporary = this.path(`snapshot-${number}.tmp`);
      const file = openSync(temporary, 'w');
      let size = 0;
      for (let start = 0; start < lines.length; start += CHUNK) {
        const text = lines
          .slice(start, start + CHUNK)
          .map((line) =>
            'object' in line
              ? `{"resource":${JSON.stringify(line.resource)},"object":${objectJson(line.object)}}`
              : JSON.stringify(line),
          );
        size += writeAll(file, `${text.join('\n')}\n`);
        await new Promise((resolve) => setImmediate(resolve));
      }
      fsyncSync(file);
      closeSync(file);
      this.snapshotSize = size;
      renameSync(temporary, this.path(`snapshot-${number}.jsonl`));
      for (const name of readdirSync(this.directory)) {
        const old = /^(?:snapshot|journal)-(\d+)\.(?:jsonl|tmp)$/.exec(name)?.[1];
        if (old !== undefined && Number(old) < number) rmSync(this.path(name), { force: true });
      }
    } finally {
      this.folding = false;
    }
  }

  private sync(): void {
    if (!this.dirty || this.file < 0) return;
    this.dirty = false;
    // An error here (the file was just exchanged) is of no consequence: the next sync covers the new file.
    fdatasync(this.file, () => {});
  }

  private path(name: string): string {
    return join(this.directory, name);
  }

  private lines(name: string): string[] {
    const text = readFileSync(this.path(name), 'utf8');
    const lines = text.split('\n');
    // Whatever follows the last line end was cut off by a crash before its call was answered.
    lines.pop();
    return lines.filter((line) => line !== '');
  }
}

/** Where texts are encoded that fit: a buffer for each would be memory that only the garbage collector gives back. */
const scratch = Buffer.allocUnsafeSlow(1024 * 1024);

/** Writes all of `text` and returns how many bytes it was. */
function writeAll(file: number, text: string): number {
  // A character of a string takes three bytes at most.
  const fits = text.length * 3 <= scratch.length;
  const data = fits ? scratch : Buffer.from(text);
  const length = fits ? scratch.write(text) : data.length;
  let offset = 0;
  while (offset < length) offset += writeSync(file, data, offset, length - offset);
  return length;
}

function eventJson({ type, resource, version, object, previous }: StoreEvent): string {
  const keepsSpec = object.spec !== undefined && object.spec === previous?.spec;
  const text = keepsSpec ? objectJsonButSpec(object) : objectJson(object);
  return `{"type":"${type}","resource":"${resource}","version":${version}${keepsSpec ? ',"keepsSpec":true' : ''},"object":${text}}`;
}

function snapshotOf(store: Store): SnapshotLine[] {
  const lines: SnapshotLine[] = [{ head: { now: store.now, version: store.version, random: store.random.state() } }];
  for (const { id } of RESOURCES) for (const object of store.values(id)) lines.push({ resource: id, object });
  // Values of side tables are replaced, but lists grow in place, so they are copied now.
  for (const side of store.side.dump()) {
    const grows = 'value' in side && Array.isArray(side.value);
    lines.push({ side: grows ? { ...side, value: [...side.value] } : side });
  }
  return lines;
}

function restoreLine(store: Store, line: SnapshotLine): void {
  if ('head' in line) store.restoreHead(line.head);
  else if ('object' in line) store.restoreObject(line.resource, line.object);
  else store.side.apply(line.side);
}
