/** Build contexts: unpacked as far as it takes to name them by their content, so that one image is built for one content. */
import { createHash } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import { Problem } from '../problem.ts';

const LARGEST_CONTEXT = 64 * 1024 * 1024;

interface Entry {
  name: string;
  /** As tar writes it: 0 a file, 1 a hard link, 2 a symbolic link, 5 a folder. */
  type: string;
  link: string;
  mode: string;
  body: Buffer;
}

/**
 * Unpack the build context, and name it by its content: the compression's own timestamps must not make two of one, and nothing that a build
 * would see may be left out, or one user's image would be given to another.
 * @throws Problem if it is no tar.gz with a Dockerfile, or a name stands in it twice: which of the two is built depends on who unpacks it
 */
export function buildOf(base64: string): { hash: string; archive: Buffer } {
  const refuse = (why: string) =>
    new Problem('GPU_BUILD_CONTEXT_INVALID', `The field dockerfile must be base64 of a tar.gz with a Dockerfile: ${why}`, {
      field: 'dockerfile',
    });
  if (!/^[A-Za-z0-9+/\s]+={0,2}\s*$/.test(base64)) throw refuse('it is not base64');
  const archive = Buffer.from(base64, 'base64');
  let tar: Buffer;
  try {
    tar = gunzipSync(archive, { maxOutputLength: LARGEST_CONTEXT });
  } catch {
    throw refuse('it cannot be unpacked, or is too large');
  }
  const entries = entriesOf(tar);
  if (entries === null) throw refuse('it is not a tar archive');
  const names = new Set<string>();
  for (const { name } of entries) {
    if (names.has(name)) throw refuse(`it holds ${JSON.stringify(name.slice(0, 100))} twice`);
    names.add(name);
  }
  if (!names.has('Dockerfile')) throw refuse('it holds no Dockerfile at its top');
  // Owners and times differ from one packing to the next; the rest is what is built.
  const hash = createHash('sha256');
  for (const { name, type, link, mode, body } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    hash.update(`${name}\0${type}\0${link}\0${mode}\0${body.length}\0`).update(body);
  }
  return { hash: hash.digest('hex'), archive };
}

/** The entries of a tar archive, with the long names that GNU and pax put into entries of their own, or null if it is none. */
function entriesOf(tar: Buffer): Entry[] | null {
  const entries: Entry[] = [];
  let longer: { name?: string; link?: string } = {};
  let at = 0;
  while (at + 512 <= tar.length) {
    const header = tar.subarray(at, at + 512);
    // Some programs read on behind one empty block: what they would find there must not be another content than the one named here.
    if (header.every((byte) => byte === 0)) return tar.subarray(at).every((byte) => byte === 0) ? entries : null;
    if (!hasItsChecksum(header)) return null;
    const text = (from: number, length: number) => untilNul(header.subarray(from, from + length));
    const size = Number.parseInt(text(124, 12).trim() || '0', 8);
    if (!Number.isFinite(size) || size < 0 || at + 512 + size > tar.length) return null;
    const body = tar.subarray(at + 512, at + 512 + size);
    at += 512 + Math.ceil(size / 512) * 512;
    const type = text(156, 1) || '0';
    if (type === 'L') longer.name = untilNul(body);
    else if (type === 'K') longer.link = untilNul(body);
    else if (type === 'x' || type === 'g') {
      const found = paxNames(body);
      // A size, or a name for all that follows, is read by some programs and not by others.
      if (found === null || (type === 'g' && (found.name ?? found.link) !== undefined)) return null;
      longer = { ...longer, ...found };
    } else {
      if (!TYPES.includes(type)) return null;
      const prefix = text(257, 5) === 'ustar' ? text(345, 155) : '';
      const short = prefix ? `${prefix}/${text(0, 100)}` : text(0, 100);
      const name = plain(longer.name ?? short);
      if (name.split('/').includes('..')) return null;
      entries.push({ name, type, link: longer.link ?? text(157, 100), mode: text(100, 8).trim(), body });
      longer = {};
    }
  }
  return entries.length > 0 ? entries : null;
}

/** Files, links and folders. */
const TYPES = ['0', '1', '2', '5', '7'];

/** The sum of a header's bytes, its own field counted as spaces; programs that unpack refuse a wrong one. */
function hasItsChecksum(header: Buffer): boolean {
  const told = Number.parseInt(header.toString('latin1', 148, 156).replaceAll('\0', ' ').trim(), 8);
  let sum = 8 * 0x20;
  for (let at = 0; at < 512; at++) if (at < 148 || at >= 156) sum += header[at]!;
  return sum === told;
}

/** Path and link target of a pax header, whose records are `<length> <key>=<value>\n`; null if it tells of another size. */
function paxNames(body: Buffer): { name?: string; link?: string } | null {
  const found: { name?: string; link?: string } = {};
  for (let at = 0; at < body.length; ) {
    const space = body.indexOf(0x20, at);
    const length = Number.parseInt(body.toString('latin1', at, space), 10);
    if (space < 0 || !(length > 0)) break;
    const [, key, value] = /^(\w+)=(.*)\n$/s.exec(body.toString('utf8', space + 1, at + length)) ?? [];
    if (key === 'size') return null;
    if (key === 'path' && value !== undefined) found.name = value;
    if (key === 'linkpath' && value !== undefined) found.link = value;
    at += length;
  }
  return found;
}

function untilNul(bytes: Buffer): string {
  return bytes.toString('utf8').replace(/\0.*$/s, '');
}

/** One way to write a name: `./a//b/` is `a/b`. */
function plain(name: string): string {
  return name
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/');
}
