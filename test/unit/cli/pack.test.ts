import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packContext } from '../../../src/cli/pack.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gpu-dev-pack-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function make(files: Record<string, string>, at = folder): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(at, name, '..'), { recursive: true });
    writeFileSync(join(at, name), content);
  }
}

/** What the system's tar finds in it. */
function listed(base64: string): string[] {
  return execFileSync('tar', ['-tzf', '-'], { input: Buffer.from(base64, 'base64') })
    .toString()
    .trim()
    .split('\n');
}

describe('a build context', () => {
  it('is the same bytes for the same files, whatever their times and the order they were made in', () => {
    make({ Dockerfile: 'FROM a', 'src/one.txt': '1', 'src/two.txt': '2' });
    const other = mkdtempSync(join(tmpdir(), 'gpu-dev-pack-'));
    make({ 'src/two.txt': '2', 'src/one.txt': '1', Dockerfile: 'FROM a' }, other);
    utimesSync(join(other, 'Dockerfile'), 1, 1);
    expect(packContext(folder)).toBe(packContext(other));
    writeFileSync(join(other, 'src/two.txt'), '3');
    expect(packContext(folder)).not.toBe(packContext(other));
    rmSync(other, { recursive: true });
  });

  it('unpacks with tar, contents, modes and long names included', () => {
    const deep = `${'a'.repeat(60)}/${'b'.repeat(60)}/${'c'.repeat(40)}.txt`;
    make({ Dockerfile: 'FROM a\n', 'run.sh': '#!/bin/sh\necho hi\n', [deep]: 'deep', 'ü.txt': 'umlaut' });
    chmodSync(join(folder, 'run.sh'), 0o755);
    const packed = packContext(folder);
    expect(listed(packed).length).toBe(4);
    const to = mkdtempSync(join(tmpdir(), 'gpu-dev-pack-'));
    execFileSync('tar', ['-xzf', '-', '-C', to], { input: Buffer.from(packed, 'base64') });
    expect(execFileSync(join(to, 'run.sh')).toString()).toBe('hi\n');
    expect(execFileSync('cat', [join(to, deep)]).toString()).toBe('deep');
    rmSync(to, { recursive: true });
  });

  it('leaves out .git and what .dockerignore names, and keeps what it takes back', () => {
    make({
      Dockerfile: 'FROM a',
      '.dockerignore': '# comment\nnode_modules/\n*.log\ndata\n!data/keep.txt\nDockerfile\n',
      '.git/config': 'x',
      'node_modules/x/index.js': 'x',
      'a.log': 'x',
      'data/drop.txt': 'x',
      'data/keep.txt': 'x',
      'src/a.py': 'x',
    });
    expect(listed(packContext(folder))).toEqual(['.dockerignore', 'Dockerfile', 'data/keep.txt', 'src/a.py']);
  });

  it('takes a Dockerfile of any name alone', () => {
    make({ 'gpu.Dockerfile': 'FROM a', 'other.txt': 'x' });
    expect(listed(packContext(join(folder, 'gpu.Dockerfile')))).toEqual(['Dockerfile']);
  });

  it('packs a link within the folder as the file, and refuses one that leads out of it', () => {
    make({ Dockerfile: 'FROM a', 'a.txt': 'x' });
    symlinkSync('a.txt', join(folder, 'b.txt'));
    expect(listed(packContext(folder))).toEqual(['Dockerfile', 'a.txt', 'b.txt']);
    symlinkSync('/etc/passwd', join(folder, 'secret'));
    expect(() => packContext(folder)).toThrow('secret links to something that is not a file of this folder');
  });

  it('says what is wrong in a sentence: nothing there, no Dockerfile, too large', () => {
    expect(() => packContext(join(folder, 'none'))).toThrow(/^There is no .*none\. Give a Dockerfile/);
    expect(() => packContext(folder)).toThrow(/^There is no Dockerfile in/);
    make({ Dockerfile: 'FROM a' });
    writeFileSync(join(folder, 'model.bin'), randomBytes(3_500_000));
    expect(() => packContext(folder)).toThrow(/too large: 4\.7 MB packed, and 4\.0 MB is the limit.*model\.bin/);
  });
});
