/** Packs a build context: the same files always give the same bytes, so that one image is built for them. */
import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, join, matchesGlob, relative, sep } from 'node:path';
import { gzipSync } from 'node:zlib';
import { CliError, EXIT } from './exit.ts';

/** What the service takes as base64. */
const MOST_CHARACTERS = 4_000_000;

interface Entry {
  /** Path in the archive, with forward slashes. */
  name: string;
  executable: boolean;
  content: Buffer;
}

/**
 * A folder with a Dockerfile at its top, or a Dockerfile alone, as base64 of a tar.gz. `.git` and what .dockerignore names stay out.
 * @throws CliError if it cannot be packed, or is too large.
 */
export function packContext(path: string): string {
  const entries = entriesOf(path);
  const text = gzipSync(tar(entries), { level: 9 }).toString('base64');
  if (text.length <= MOST_CHARACTERS) return text;
  const largest = [...entries].sort((a, b) => b.content.length - a.content.length).slice(0, 3);
  throw new CliError(
    EXIT.usage,
    `The build context is too large: ${megabytes(text.length)} packed, and ${megabytes(MOST_CHARACTERS)} is the limit. ` +
      `Name what is not needed in a .dockerignore; the largest files are ${largest.map((entry) => entry.name).join(', ')}.`,
  );
}

function entriesOf(path: string): Entry[] {
  const kind = statSync(path, { throwIfNoEntry: false });
  if (kind === undefined)
    throw new CliError(EXIT.usage, `There is no ${path}. Give a Dockerfile, or a folder with one at its top.`);
  if (kind.isFile()) return [{ name: 'Dockerfile', executable: false, content: readFileSync(path) }];
  const entries = walk(path, ignoredBy(path));
  if (entries.some((entry) => entry.name === 'Dockerfile')) return entries;
  throw new CliError(EXIT.usage, `There is no Dockerfile in ${path}. Put one at its top, or give its path.`);
}

function walk(top: string, ignored: (name: string) => boolean): Entry[] {
  const root = realpathSync(top);
  const entries: Entry[] = [];
  const visit = (folder: string) => {
    for (const child of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, child.name);
      const name = relative(top, path).split(sep).join('/');
      if (child.name === '.git' || ignored(name)) continue;
      if (child.isDirectory()) visit(path);
      else if (child.isFile() || child.isSymbolicLink()) entries.push(read(root, path, name));
    }
  };
  visit(top);
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A file, or the file that a link within the folder points to: an archive of plain files unpacks the same everywhere. */
function read(root: string, path: string, name: string): Entry {
  const real = realpathOf(path);
  if (real === null || !real.startsWith(`${root}${sep}`) || !statSync(real).isFile()) {
    throw new CliError(
      EXIT.usage,
      `${name} links to something that is not a file of this folder. Copy it, or name it in a .dockerignore.`,
    );
  }
  return { name, executable: (statSync(real).mode & 0o100) !== 0, content: readFileSync(real) };
}

function realpathOf(path: string): string | null {
  try {
    return realpathSync(path);
  } catch {
    return null;
  }
}

/** The rules of a .dockerignore: globs, later ones win, `!` takes back. The Dockerfile itself always goes along. */
function ignoredBy(top: string): (name: string) => boolean {
  let lines: string[];
  try {
    lines = readFileSync(join(top, '.dockerignore'), 'utf8').split(/\r?\n/);
  } catch {
    return () => false;
  }
  const rules = lines
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const keep = line.startsWith('!');
      return {
        keep,
        glob: line
          .slice(keep ? 1 : 0)
          .replace(/^\.?\//, '')
          .replace(/\/+$/, ''),
      };
    });
  const anyKept = rules.some((rule) => rule.keep);
  return (name) => {
    if (name === 'Dockerfile') return false;
    let ignored = false;
    for (const { keep, glob } of rules) {
      if (matchesGlob(name, glob) || matchesGlob(name, `${glob}/**`)) ignored = !keep;
    }
    // A folder that is ignored may hold a file that is taken back.
    return ignored && !(anyKept && rules.some((rule) => rule.keep && rule.glob.startsWith(`${name}/`)));
  };
}

/** A ustar archive without times, owners or any other trace of this machine. */
function tar(entries: readonly Entry[]): Buffer {
  const blocks = entries.flatMap((entry) => {
    const padding = Buffer.alloc((512 - (entry.content.length % 512)) % 512);
    return [header(entry), entry.content, padding];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

function header({ name, executable, content }: Entry): Buffer {
  const { head, tail } = split(name);
  const block = Buffer.alloc(512);
  const octal = (value: number, at: number, length: number) =>
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'ascii');
  block.write(tail, 0, 100, 'utf8');
  octal(executable ? 0o755 : 0o644, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(content.length, 124, 12);
  octal(0, 136, 12);
  block.write('        ', 148, 'ascii');
  block.write('0', 156, 'ascii');
  block.write('ustar\u000000', 257, 'ascii');
  block.write(head, 345, 155, 'utf8');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'ascii');
  return block;
}

/** A name of more than 100 bytes is split at a slash, as the format has it. */
function split(name: string): { head: string; tail: string } {
  if (Buffer.byteLength(name) <= 100) return { head: '', tail: name };
  for (let slash = name.indexOf('/'); slash > 0; slash = name.indexOf('/', slash + 1)) {
    const head = name.slice(0, slash);
    const tail = name.slice(slash + 1);
    if (Buffer.byteLength(head) <= 155 && Buffer.byteLength(tail) <= 100) return { head, tail };
  }
  throw new CliError(
    EXIT.usage,
    `The path ${basename(name)} is too long for a build context. Shorten it, or name it in a .dockerignore.`,
  );
}

function megabytes(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
