/**
 * Plants bugs, one at a time, in a copy of the tree, and shows after how many seeds the simulation finds each.
 *
 *   node test/simulation/mutants.ts [--seeds 3000] [--only words of a name] [--part 0/2]
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MUTANTS, type Mutant } from './mutants/list.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '3000' },
    only: { type: 'string', default: '' },
    part: { type: 'string', default: '0/1' },
  },
});

let missed = 0;
const [part, parts] = values.part.split('/').map(Number);
for (const [index, mutant] of MUTANTS.entries()) {
  if (index % parts! !== part || !mutant.name.includes(values.only)) continue;
  const found = find(mutant);
  if (found === null) missed++;
  console.log(`| ${mutant.name} | ${found === null ? `not in ${values.seeds} seeds` : `${found.seed} | ${found.rule}`} |`);
}
process.exitCode = missed === 0 ? 0 : 1;

/** @returns the first seed that finds the bug, and the rule that is broken; null if none does */
function find(mutant: Mutant): { seed: number; rule: string } | null {
  const copy = mkdtempSync(join(tmpdir(), 'gpu-dev-mutant-'));
  try {
    for (const folder of ['machines', 'persistence', 'actors', 'test/simulation', 'package.json']) {
      cpSync(join(ROOT, folder), join(copy, folder), { recursive: true });
    }
    symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    for (const { file, from, to } of mutant.edits) {
      const text = readFileSync(join(copy, file), 'utf8');
      if (text.split(from).length !== 2) throw new Error(`${mutant.name}: not exactly one place in ${file} reads: ${from}`);
      writeFileSync(
        join(copy, file),
        text.replace(from, () => to),
      );
    }
    const args = ['test/simulation/main.ts', '--seeds', values.seeds, '--failures', '1', '--shrink', '0'];
    const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: copy, encoding: 'utf8', maxBuffer: 2 ** 28 });
    const line = /^seed (\d+): ([^:]+):/m.exec(stdout);
    if (line === null && !stdout.includes(' 0 failed'))
      throw new Error(`${mutant.name}: the simulation itself failed: ${stderr}`);
    return line === null ? null : { seed: Number(line[1]), rule: line[2]! };
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}
