// The script that copies a disk, run for real between two folders.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeScratch, removeScratch } from '../../support/scratch.ts';
import { until } from '../providers/support/wait.ts';
import { begin, copy, killed, listing, markOf, type Try } from './folders.ts';

const isRoot = process.getuid?.() === 0;

function python(code: string, ...args: string[]): string {
  return execFileSync('python3', ['-c', `import os, sys; ${code}`, ...args], { encoding: 'utf8', stdio: 'pipe' });
}

/** What this machine and its file system can do. */
function can(work: (folder: string) => void): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'gpu-dev-can-'));
  try {
    work(folder);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
const hasAttributes = can((folder) => python('os.setxattr(sys.argv[1], "user.note", b"kept")', folder));
const mountSmall = (folder: string): void =>
  void execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', folder], { stdio: 'pipe' });
const hasSmallVolumes = can((folder) => {
  mountSmall(folder);
  execFileSync('umount', [folder]);
});

let base: string;
const at = (name: string): string => join(base, name);
const folder = (name: string): string => {
  mkdirSync(at(name), { recursive: true });
  return at(name);
};
const save = (change: Partial<Try> = {}) =>
  copy({ mode: 'save', source: at('disk'), target: at('copy'), work: at('work'), ...change });
const fill = (change: Partial<Try> = {}) =>
  copy({ mode: 'fill', source: at('copy'), target: at('new'), work: at('work'), ...change });

/** A cp that says that it is there and copies nothing: a try that stands still in the middle. */
function slowCopies(): string {
  const path = folder('slow');
  writeFileSync(join(path, 'cp'), '#!/bin/sh\n/bin/cp "$@"\necho half >"$TARGET/.gpu-dev-copy.$RUN/half"\nexec sleep 600\n');
  chmodSync(join(path, 'cp'), 0o755);
  return path;
}

beforeEach(() => {
  base = makeScratch('copies');
  for (const name of ['disk', 'copy', 'new', 'work']) folder(name);
  const disk = at('disk');
  mkdirSync(join(disk, 'project/.git'), { recursive: true });
  writeFileSync(join(disk, 'project/train.py'), 'print("hello")\n');
  writeFileSync(join(disk, 'project/a name\nwith a line\tand "more" $(x)'), 'odd');
  writeFileSync(join(disk, '-rf'), 'an option?');
  writeFileSync(join(disk, '.hidden'), '');
  linkSync(join(disk, 'project/train.py'), join(disk, 'same.py'));
  symlinkSync('/etc/passwd', join(disk, 'absolute'));
  symlinkSync('nowhere', join(disk, 'dangling'));
  writeFileSync(join(disk, 'secret'), 'x');
  chmodSync(join(disk, 'secret'), 0o000);
  writeFileSync(join(disk, 'tool'), '#!/bin/sh\n');
  chmodSync(join(disk, 'tool'), 0o4755);
  writeFileSync(join(disk, 'sparse'), 'begin');
  truncateSync(join(disk, 'sparse'), 64 * 2 ** 20);
  execFileSync('mkfifo', [join(disk, 'pipe')]);
  mkdirSync(join(disk, 'sticky'));
  chmodSync(join(disk, 'sticky'), 0o3777);
  if (isRoot) execFileSync('chown', ['-h', '1081:1082', join(disk, 'project'), join(disk, 'same.py'), join(disk, 'dangling')]);
  utimesSync(join(disk, 'project'), 1_000_000, 1_000_000.5);
  chmodSync(disk, 0o750);
  utimesSync(disk, 1_234_567, 1_234_567);
});
afterEach(() => removeScratch(base));

describe('a copy of a disk', () => {
  it('holds what the disk holds, and a new disk filled from it is the disk again', async () => {
    const before = listing(at('disk'));
    expect(await save()).toMatchObject({ code: 0 });
    expect(markOf(at('copy'))).toBe('complete snap-1 first');
    expect(listing(join(at('copy'), '.gpu-dev-copy.first'))).toEqual(before);
    expect(await fill({ run: 'second' })).toMatchObject({ code: 0 });
    expect(listing(at('new'))).toEqual(before);
    expect(listing(at('disk'))).toEqual(before);
    expect(readdirSync(at('new')).filter((name) => name.startsWith('.gpu-dev-copy'))).toEqual(['.gpu-dev-copy']);
    expect(lstatSync(join(at('new'), 'same.py')).ino).toBe(lstatSync(join(at('new'), 'project/train.py')).ino);
    // 64 MiB of which hardly anything was ever written.
    expect(statSync(join(at('new'), 'sparse')).blocks * 512).toBeLessThan(2 ** 20);
    expect(before.filter((line) => line.includes('with a line'))).toHaveLength(2);
  });

  it.skipIf(!hasAttributes)('keeps attributes of files', async () => {
    python('os.setxattr(sys.argv[1], "user.note", b"kept")', join(at('disk'), 'same.py'));
    await save();
    await fill();
    expect(python('print(os.getxattr(sys.argv[1], "user.note").decode())', join(at('new'), 'same.py')).trim()).toBe('kept');
  });

  it('of a disk that was filled once holds no mark of that', async () => {
    await save();
    await fill();
    const again = folder('again');
    expect(await save({ source: at('new'), target: again, snapshot: 'snap-2' })).toMatchObject({ code: 0 });
    expect(existsSync(join(again, '.gpu-dev-copy.first/.gpu-dev-copy'))).toBe(false);
    expect(listing(join(again, '.gpu-dev-copy.first'))).toEqual(listing(at('disk')));
  });

  it('that is complete is not made again', async () => {
    await save();
    writeFileSync(join(at('disk'), 'later'), 'x');
    expect(await save({ run: 'second' })).toMatchObject({ code: 0, said: expect.stringContaining('complete already') });
    expect(markOf(at('copy'))).toBe('complete snap-1 first');
    await fill();
    writeFileSync(join(at('new'), 'mine'), 'written by its user since');
    expect(await fill({ run: 'second' })).toMatchObject({ code: 0 });
    expect(readFileSync(join(at('new'), 'mine'), 'utf8')).toBe('written by its user since');
  });

  it('tells how far it is', async () => {
    const path = slowCopies();
    const child = begin({ mode: 'save', source: at('disk'), target: at('copy'), work: at('work'), path });
    let said = '';
    child.stdout!.on('data', (data: Buffer) => (said += data.toString()));
    await until('a percentage', () => /^progress \d+$/m.test(said));
    await killed(child);
  });
});

describe('a copy that was killed in the middle', () => {
  it('is no copy: nothing is filled from it, and the next try begins anew', async () => {
    const child = begin({ mode: 'save', source: at('disk'), target: at('copy'), work: at('work'), path: slowCopies() });
    const half = join(at('copy'), '.gpu-dev-copy.first/half');
    await until('it is in the middle', () => existsSync(half));
    await killed(child);
    expect(markOf(at('copy'))).toBe('copying snap-1 first');
    expect(await fill()).toMatchObject({ code: 55, message: expect.stringContaining('not complete') });
    expect(readdirSync(at('new'))).toEqual([]);
    expect(await save({ run: 'second' })).toMatchObject({ code: 0 });
    expect(readdirSync(at('copy')).sort()).toEqual(['.gpu-dev-copy', '.gpu-dev-copy.second']);
    expect(listing(join(at('copy'), '.gpu-dev-copy.second'))).toEqual(listing(at('disk')));
  });

  it('leaves a new disk that the next try fills, from its beginning or from where everything was there already', async () => {
    await save();
    const child = begin({ mode: 'fill', source: at('copy'), target: at('new'), work: at('work'), path: slowCopies() });
    await until('it is in the middle', () => existsSync(join(at('new'), '.gpu-dev-copy.first/half')));
    await killed(child);
    expect(await fill({ run: 'second' })).toMatchObject({ code: 0 });
    expect(listing(at('new'))).toEqual(listing(at('disk')));

    const other = folder('other');
    const path = folder('stuck');
    writeFileSync(
      join(path, 'mv'),
      '#!/bin/sh\ncase "$1 $2" in "-n -t") /bin/mv -t "$TARGET" -- "$TARGET/.gpu-dev-copy.$RUN/project"; touch "$WORK/stuck"; exec sleep 600;; esac\nexec /bin/mv "$@"\n',
    );
    chmodSync(join(path, 'mv'), 0o755);
    const moving = begin({ mode: 'fill', source: at('copy'), target: other, work: at('work'), path });
    await until('it is moving', () => existsSync(join(at('work'), 'stuck')));
    await killed(moving);
    expect(markOf(other)).toBe('moving snap-1 first');
    expect(await fill({ target: other, run: 'second' })).toMatchObject({ code: 0 });
    expect(listing(other)).toEqual(listing(at('disk')));
  });

  it('and goes on where nobody heard of it spoils nothing of the try that took over', async () => {
    const path = folder('waits');
    // It copies, then waits until it is told to go on.
    writeFileSync(
      join(path, 'cp'),
      '#!/bin/sh\n/bin/cp "$@"\ntouch "$WORK/copied-all"\nuntil [ -f "$WORK/go-on" ]; do sleep 0.02; done\n',
    );
    chmodSync(join(path, 'cp'), 0o755);
    const first = copy({ mode: 'save', source: at('disk'), target: at('copy'), work: at('work'), path });
    await until('the first has copied', () => existsSync(join(at('work'), 'copied-all')));
    expect(await save({ run: 'second', work: folder('work-2') })).toMatchObject({ code: 0 });
    writeFileSync(join(at('work'), 'go-on'), '');
    expect((await first).code).not.toBe(0);
    expect(markOf(at('copy'))).toBe('complete snap-1 second');
    expect(listing(join(at('copy'), '.gpu-dev-copy.second'))).toEqual(listing(at('disk')));
  });
});

describe('a copy refuses', () => {
  it('a volume that holds data of its own, or another copy, and leaves it as it is', async () => {
    writeFileSync(join(at('copy'), 'thesis.tex'), 'years of work');
    expect(await save()).toMatchObject({ code: 50, message: expect.stringContaining('holds data that is not of this copy') });
    expect(readdirSync(at('copy'))).toEqual(['thesis.tex']);
    rmSync(join(at('copy'), 'thesis.tex'));
    await save();
    expect(await save({ snapshot: 'snap-2' })).toMatchObject({ code: 51 });
    writeFileSync(join(at('new'), 'thesis.tex'), 'years of work');
    expect(await fill()).toMatchObject({ code: 50 });
    expect(readdirSync(at('new'))).toEqual(['thesis.tex']);
    expect(await fill({ snapshot: 'snap-2', target: folder('third') })).toMatchObject({ code: 55 });
  });

  it('data in lost+found counts, an empty lost+found does not', async () => {
    mkdirSync(join(at('copy'), 'lost+found'));
    expect(await save()).toMatchObject({ code: 0 });
    mkdirSync(join(at('new'), 'lost+found'));
    writeFileSync(join(at('new'), 'lost+found/#12'), 'found');
    expect(await fill()).toMatchObject({ code: 50 });
    rmSync(join(at('new'), 'lost+found/#12'));
    expect(await fill()).toMatchObject({ code: 0 });
  });

  it.skipIf(!hasSmallVolumes)('to count when there is no space left, and says so', async () => {
    const small = folder('small');
    mountSmall(small);
    try {
      for (let number = 0; number < 200; number += 1) writeFileSync(join(at('disk'), `file-${number}`), 'x'.repeat(4_096));
      expect(await save({ target: small })).toMatchObject({ code: 53, message: 'There is no space left on the new volume' });
      expect(markOf(small)).toBe('copying snap-1 first');
    } finally {
      execFileSync('umount', [small]);
    }
  });
});
