/** What is on a disk, as the server that has it tells, or the pod that copies it: read with suspicion, for whoever is root inside may say anything. */
import { isUtf8 } from 'node:buffer';
import { type ContentsCut, type ContentsEntry, type DiskContents, MOST_ENTRIES } from '../../../actors/disk/ports.ts';
import type { KubernetesClient } from './client.ts';
import { runInside } from './exec.ts';
import { HOME } from './layout.ts';
import { SCRIPTS, scriptCall } from './scripts.ts';

export const CONTENTS_SCRIPT = 'contents.sh';

/** How much of a disk is told: levels of folders, and bytes in all. */
export const CONTENTS_BOUNDS = { levels: 8, bytes: 512 * 1024 } as const;

/** How long a server looks before it is removed, and how long anybody waits for it: in seconds, and in milliseconds. */
const INSIDE = { seconds: 2, waitMs: 3_000 } as const;

/** The arguments of the script. */
export function contentsArguments(folder: string, seconds: number): string[] {
  return [folder, String(CONTENTS_BOUNDS.levels), String(seconds), String(CONTENTS_BOUNDS.bytes)];
}

export const contentsScript = (): string => SCRIPTS[CONTENTS_SCRIPT] ?? '';

/**
 * What is on the disk of a server, its home. Takes three seconds at most.
 * @returns null if the server does not tell
 * @throws KubernetesError if it cannot be asked
 */
export async function listInside(client: KubernetesClient, pod: string): Promise<DiskContents | null> {
  const { exitCode, stdout } = await runInside(
    client,
    pod,
    scriptCall(CONTENTS_SCRIPT, ...contentsArguments(HOME, INSIDE.seconds)),
    {
      timeoutMs: INSIDE.waitMs,
      encoding: 'latin1',
      longest: CONTENTS_BOUNDS.bytes + 1_024,
    },
  );
  return exitCode === 0 ? parseContents(Buffer.from(stdout, 'latin1')) : null;
}

/** What stands in the log of a copy, in lines of base64. @returns null if nothing does */
export function contentsOfLog(log: string): DiskContents | null {
  const lines = [...log.matchAll(/^contents ([A-Za-z0-9+/=]+)$/gm)].map(([, line]) => line);
  return lines.length === 0 ? null : parseContents(Buffer.from(lines.join(''), 'base64'));
}

const KINDS: Record<string, ContentsEntry['kind']> = { f: 'file', d: 'folder', l: 'link' };
const RECORD = /^([a-zA-Z?]) (-|\d{1,16}) (.+)$/s;
const END = /^end ([01]) ([01])$/;

/** @returns null if this is no listing */
export function parseContents(told: Buffer): DiskContents | null {
  // Byte for byte: only then do all names come through.
  const records = told.toString('latin1').split('\0');
  const half = records.pop() ?? '';
  const end = END.exec(records.at(-1) ?? '');
  if (end !== null) records.pop();
  else if (records.length === 0) return null;
  const entries: ContentsEntry[] = [];
  for (const record of records) {
    const [, letter, size, path] = RECORD.exec(record) ?? [];
    if (letter === undefined || size === undefined || path === undefined) return null;
    const kind = KINDS[letter] ?? 'other';
    const bytes = kind === 'file' && size !== '-' ? Number(size) : null;
    entries.push({
      path: printable(Buffer.from(path, 'latin1')),
      kind,
      size: bytes !== null && Number.isSafeInteger(bytes) ? bytes : null,
    });
  }
  if (end !== null && half !== '') return null;
  const cut: ContentsCut[] = [];
  if (entries.length > MOST_ENTRIES) cut.push('entries');
  if (end === null) cut.push(told.length >= CONTENTS_BOUNDS.bytes ? 'bytes' : 'time');
  if (end?.[1] === '1') cut.push('depth');
  if (end?.[2] === '1') cut.push('unread');
  const files = entries.filter(({ kind }) => kind === 'file');
  const sum =
    cut.length === 0 && files.every(({ size }) => size !== null) ? files.reduce((all, { size }) => all + (size ?? 0), 0) : null;
  return {
    // The upper levels came first: of too many, the lower ones go.
    entries: entries.slice(0, MOST_ENTRIES).sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0)),
    total: cut.every((each) => each === 'entries') ? entries.length : null,
    sizeBytes: sum !== null && Number.isSafeInteger(sum) ? sum : null,
    cut,
  };
}

const SHORT: Record<string, string> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
const UNPRINTABLE = /[\\\p{C}\p{Zl}\p{Zp}]/gu;
/** Runs of well-formed UTF-8 (table 3-7 of the Unicode Standard), or one byte that belongs to none; each byte stands as a character. */
const TEXT_OR_BYTE = new RegExp(
  `((?:${[
    '[^\\x80-\\xff]',
    '[\\xc2-\\xdf][\\x80-\\xbf]',
    '\\xe0[\\xa0-\\xbf][\\x80-\\xbf]',
    '[\\xe1-\\xec\\xee\\xef][\\x80-\\xbf]{2}',
    '\\xed[\\x80-\\x9f][\\x80-\\xbf]',
    '\\xf0[\\x90-\\xbf][\\x80-\\xbf]{2}',
    '[\\xf1-\\xf3][\\x80-\\xbf]{3}',
    '\\xf4[\\x80-\\x8f][\\x80-\\xbf]{2}',
  ].join('|')}){1,256})|[\\x80-\\xff]`,
  'g',
);

/**
 * A name as one line of text that no terminal acts on, and from which the name can be told: what cannot be printed, and the backslash, stand as
 * in C (`\n`, `\xff` for a byte that is no text, `\u{202e}`). Its cost grows with the length of the name alone, whatever the bytes are: names
 * are anybody's, and whoever waits for this one blocks everybody else.
 */
export function printable(name: Buffer): string {
  const escaped = (text: string): string =>
    text.replace(UNPRINTABLE, (char) => SHORT[char] ?? `\\u{${char.codePointAt(0)?.toString(16)}}`);
  if (isUtf8(name)) return escaped(name.toString());
  return name
    .toString('latin1')
    .replace(TEXT_OR_BYTE, (bytes, text?: string) =>
      text === undefined ? `\\x${bytes.charCodeAt(0).toString(16)}` : escaped(Buffer.from(text, 'latin1').toString()),
    );
}
