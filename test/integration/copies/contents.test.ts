// The script that tells what is on a disk, run for real over folders, and what is made of its words.
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MOST_ENTRIES } from '../../../actors/disk/ports.ts';
import { CONTENTS_BOUNDS, contentsOfLog, parseContents, printable } from '../../../src/providers/kubernetes/contents.ts';
import { makeScratch, removeScratch } from '../../support/scratch.ts';
import { copy, SCRIPT as COPY_SCRIPT } from './folders.ts';

const SCRIPT = fileURLToPath(new URL('../../../src/providers/kubernetes/scripts/contents.sh', import.meta.url));
let base: string;
let disk: string;
beforeEach(() => {
  base = makeScratch('contents');
  disk = join(base, 'disk');
  mkdirSync(disk);
});
afterEach(() => removeScratch(base));

function told(change: { levels?: number; seconds?: number; bytes?: number; path?: string } = {}) {
  const { levels = 8, seconds = 20, bytes = CONTENTS_BOUNDS.bytes, path } = change;
  const env = { PATH: path === undefined ? process.env['PATH'] : `${path}:${process.env['PATH']}` };
  return spawnSync('/bin/sh', [SCRIPT, disk, String(levels), String(seconds), String(bytes)], { env, maxBuffer: 2 ** 26 });
}
const listed = (change: Parameters<typeof told>[0] = {}) => parseContents(told(change).stdout);

/** A folder with one program that comes before the system's. */
function program(name: string, text: string): string {
  const folder = join(base, 'programs');
  mkdirSync(folder);
  writeFileSync(join(folder, name), text, { mode: 0o755 });
  return folder;
}

describe('what is on a disk', () => {
  beforeEach(() => {
    mkdirSync(join(disk, 'project/.git'), { recursive: true });
    writeFileSync(join(disk, 'project/train.py'), 'print("hello")\n');
    writeFileSync(join(disk, 'project/a\nb\t"$(x)" \\ \u202eexe'), 'odd');
    writeFileSync(Buffer.concat([Buffer.from(`${disk}/`), Buffer.from([0x66, 0xff, 0xc3, 0xa9])]), 'no text');
    writeFileSync(join(disk, '-rf'), '');
    writeFileSync(join(disk, '.gpu-dev-copy'), 'complete');
    writeFileSync(join(disk, '.gpu-dev-copyright'), 'mine');
    symlinkSync('/etc/passwd', join(disk, 'link'));
    execFileSync('mkfifo', [join(disk, 'pipe')]);
  });
  const odd = 'project/a\\nb\\t"$(x)" \\\\ \\u{202e}exe';
  const all = [
    { path: '-rf', kind: 'file', size: 0 },
    { path: '.gpu-dev-copyright', kind: 'file', size: 4 },
    { path: 'f\\xffé', kind: 'file', size: 7 },
    { path: 'link', kind: 'link', size: null },
    { path: 'pipe', kind: 'other', size: null },
    { path: 'project', kind: 'folder', size: null },
    { path: 'project/.git', kind: 'folder', size: null },
    { path: odd, kind: 'file', size: 3 },
    { path: 'project/train.py', kind: 'file', size: 15 },
  ];

  it('is told name by name, whatever the names are; no link is followed, and marks of copies are left out', () => {
    expect(listed()).toEqual({ entries: all, total: 9, sizeBytes: 29, cut: [] });
  });

  it('is told without sizes where find is not GNU', () => {
    // As busybox has it: without -printf.
    const path = program('find', '#!/bin/sh\nfor word do [ "$word" != -printf ] || exit 1; done\nexec /usr/bin/find "$@"\n');
    expect(listed({ path })).toEqual({
      entries: all.map((entry) => ({ ...entry, size: null })),
      total: 9,
      sizeBytes: null,
      cut: [],
    });
  });

  it('D29: ends at its depth, its length, its number and its time, and says at which: never later, and the upper levels come first', () => {
    mkdirSync(join(disk, '1/2/3/4'), { recursive: true });
    const shallow = listed({ levels: 2 })!;
    expect(shallow).toMatchObject({ total: null, sizeBytes: null, cut: ['depth'] });
    expect(shallow.entries.map(({ path }) => path)).toContain('1/2');
    expect(shallow.entries.map(({ path }) => path)).not.toContain('1/2/3');

    const many = join(disk, 'many');
    mkdirSync(many);
    const count = MOST_ENTRIES + 200;
    for (let number = 0; number < count; number += 1) writeFileSync(join(many, `a-name-that-is-quite-long-${number}`), '');
    const number = listed()!;
    expect(number).toMatchObject({ cut: ['entries'], total: all.length + 5 + count, sizeBytes: null });
    expect(number.entries).toHaveLength(MOST_ENTRIES);
    expect(number.entries.map(({ path }) => path)).toEqual(expect.arrayContaining(['-rf', '1', 'many', 'project']));

    const long = told({ bytes: 2_000 }).stdout;
    expect(long).toHaveLength(2_000);
    const words = Buffer.concat([long, Buffer.alloc(CONTENTS_BOUNDS.bytes - long.length, 'x')]);
    expect(parseContents(words)).toMatchObject({ total: null, cut: ['bytes'] });

    // A disk that does not answer.
    const path = program('find', '#!/bin/sh\ncase "$*" in *"-mindepth 2 "*) exec sleep 600;; esac\nexec /usr/bin/find "$@"\n');
    const began = performance.now();
    const slow = listed({ path, seconds: 1 })!;
    expect(performance.now() - began).toBeLessThan(10_000);
    expect(slow).toMatchObject({ total: null, sizeBytes: null, cut: ['time'] });
    expect(slow.entries.map(({ path: name }) => name)).toContain('project');
  });

  it('is told by a copy in its log, which is none the worse if it cannot be told', async () => {
    const [target, work, scripts] = ['target', 'work', 'scripts'].map((name) => join(base, name)) as [string, string, string];
    for (const folder of [target, work, scripts]) mkdirSync(folder);
    copyFileSync(COPY_SCRIPT, join(scripts, 'copy.sh'));
    copyFileSync(SCRIPT, join(scripts, 'contents.sh'));
    const asked = { mode: 'save', source: disk, work, script: join(scripts, 'copy.sh'), contents: '8 20 524288' } as const;
    const ended = await copy({ ...asked, target });
    expect(ended).toMatchObject({ code: 0 });
    expect(contentsOfLog(ended.said)).toEqual({ entries: all, total: 9, sizeBytes: 29, cut: [] });

    writeFileSync(join(scripts, 'contents.sh'), 'echo half; exec sleep 600\n');
    const other = join(base, 'other');
    mkdirSync(other);
    const began = performance.now();
    const silent = await copy({ ...asked, target: other });
    expect(performance.now() - began).toBeLessThan(20_000);
    expect(silent).toMatchObject({ code: 0 });
    expect(readFileSync(join(other, '.gpu-dev-copy'), 'utf8')).toMatch(/^complete /);
    expect(contentsOfLog(silent.said)).toBeNull();
  });
});

describe('words of a server', () => {
  it('that are no listing are none, and no number in them is believed that is too large', () => {
    for (const text of [
      '',
      'ran: /bin/sh',
      'f 1 a',
      'nonsense\0end 0 0\0',
      'f 1 \0end 0 0\0',
      'f -1 a\0end 0 0\0',
      'end 0 0\0half',
    ])
      expect(parseContents(Buffer.from(text))).toBeNull();
    expect(contentsOfLog('progress 5\n')).toBeNull();
    expect(parseContents(Buffer.from('end 0 0\0'))).toEqual({ entries: [], total: 0, sizeBytes: 0, cut: [] });
    expect(parseContents(Buffer.from('f 9999999999999999 a\0f 9007199254740991 b\0f 9007199254740991 c\0end 0 1\0'))).toEqual({
      entries: [
        { path: 'a', kind: 'file', size: null },
        { path: 'b', kind: 'file', size: 9007199254740991 },
        { path: 'c', kind: 'file', size: 9007199254740991 },
      ],
      total: null,
      sizeBytes: null,
      cut: ['unread'],
    });
    const large = parseContents(Buffer.from('f 9007199254740991 b\0f 9007199254740991 c\0end 0 0\0'));
    expect(large).toMatchObject({ sizeBytes: null, total: 2, cut: [] });
  });

  it('become one printable line each, and two names never the same one', () => {
    const names = ['a\\nb', 'a\nb', 'é', '\x1b[31m', '\u2028', 'a\x7f', '😀', '\u200b'].map((name) => Buffer.from(name));
    const lines = [...names, Buffer.from([0xe9]), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from([0xf0, 0x9f])].map(printable);
    expect(lines).toEqual([
      ...['a\\\\nb', 'a\\nb', 'é', '\\u{1b}[31m', '\\u{2028}', 'a\\u{7f}', '😀', '\\u{200b}'],
      ...['\\xe9', '\\xed\\xa0\\x80', '\\xf0\\x9f'],
    ]);
    expect(new Set(lines).size).toBe(lines.length);
  });

  it('take as long as they are, whatever their bytes: nobody blocks the service with the names of files', () => {
    const full = (bytes: number[], length: number) => {
      const name = Buffer.alloc(length, Buffer.from(bytes));
      const record = Buffer.concat([Buffer.from('f 1 '), name, Buffer.from([0])]);
      return Buffer.concat([
        Buffer.alloc(record.length * Math.floor(CONTENTS_BOUNDS.bytes / record.length), record),
        Buffer.from('end 0 0\0'),
      ]);
    };
    const began = performance.now();
    for (const [bytes, length, shown] of [
      [[0xff], 250, /^(\\xff){250}$/],
      [[0xf0, 0x9f, 0x98], 250, /^(\\xf0\\x9f\\x98)+\\xf0$/],
      [[0x61, 0xff], CONTENTS_BOUNDS.bytes - 64, /^(a\\xff)+$/],
    ] as const)
      expect(parseContents(full([...bytes], length))?.entries[0]?.path).toMatch(shown);
    // By far less than a second; throwing at each byte took a minute.
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});
