import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ROOT } from './files.ts';

type Packages = Record<string, string>;
interface Manifest {
  dependencies: Packages;
  devDependencies: Packages;
  optionalDependencies: Packages;
}

const read = (file: string): unknown => JSON.parse(readFileSync(join(ROOT, file), 'utf8'));
const manifest = read('package.json') as Manifest;
const lock = (
  read('package-lock.json') as {
    packages: Record<string, Partial<Manifest> & { version?: string; integrity?: string; link?: boolean }>;
  }
).packages;

it('B5: every package is asked for in one version, the lockfile has that very version, and nothing in it lacks its checksum', () => {
  const all = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies, ...manifest.optionalDependencies });
  expect(all.length).toBeGreaterThan(20);
  for (const [name, wanted] of all) {
    const version = wanted.startsWith('npm:') ? wanted.slice(wanted.lastIndexOf('@') + 1) : wanted;
    expect(version, name).toMatch(/^\d+\.\d+\.\d+(-[\w.]+)?$/);
    expect(lock[`node_modules/${name}`]?.version, name).toBe(version);
  }
  const { dependencies, devDependencies, optionalDependencies } = lock['']!;
  expect({ dependencies, devDependencies, optionalDependencies }).toEqual({
    dependencies: manifest.dependencies,
    devDependencies: manifest.devDependencies,
    optionalDependencies: manifest.optionalDependencies,
  });
  const unchecked = Object.entries(lock).filter(([path, { integrity }]) => path !== '' && integrity === undefined);
  expect(unchecked.map(([path]) => path)).toEqual([]);
});
