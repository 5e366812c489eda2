import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { projectFiles, ROOT } from '../repository/files.ts';
import { unpackDebian } from '../support/debian.ts';
import { notTested } from '../support/not-tested.ts';

const scripts = projectFiles('.sh').map(({ path }) => join(ROOT, path));
const checker = await unpackDebian('shellcheck', ['shellcheck', 'libgmp10', 'libffi8']);
if ('missing' in checker) notTested('scripts by shellcheck', checker.missing);

it.skipIf('missing' in checker)('B7: scripts are files, and shellcheck has nothing to say about them', () => {
  if ('missing' in checker) return;
  const library = join(checker.folder, 'usr/lib/x86_64-linux-gnu');
  const env = { ...process.env, LD_LIBRARY_PATH: `${library}:${library.replace('x86_64', 'aarch64')}` };
  const { status, stdout, stderr } = spawnSync(join(checker.folder, 'usr/bin/shellcheck'), scripts, { encoding: 'utf8', env });
  expect([status, stdout, stderr]).toEqual([0, '', '']);
});

it('T10 T11: nothing is written into a script: none has a place for a value, and no code of ours has one in its text', () => {
  for (const file of scripts) expect(readFileSync(file, 'utf8')).not.toMatch(/\{\{|@@|%s'.*eval/);
  const code = projectFiles('.ts').filter(({ path }) => path.startsWith('src/providers/kubernetes/'));
  expect(code.length).toBeGreaterThan(20);
  const shells = code.flatMap(({ path, text }) =>
    [...text.matchAll(/.*['"`]-c['"`].*/g)].map(([line]) => `${path}: ${line.trim()}`),
  );
  // The user's own command, which is theirs to be run by a shell.
  expect(shells).toEqual([
    "src/providers/kubernetes/pod-spec.ts: ...(own && spec.command !== null ? { args: ['/bin/sh', '-c', spec.command] } : {}),",
  ]);
});
