/** The scripts that run inside dev servers: files, delivered as they are. Each server gets those of its birth and keeps them. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import type { V1ConfigMap } from '@kubernetes/client-node';
import { SCRIPTS_FOLDER } from './layout.ts';
import { LABEL } from './objects.ts';

const FOLDER = new URL('scripts/', import.meta.url);

/** The scripts by name, as they stand in the folder beside. Read once: a running service never changes them under a server. */
export const SCRIPTS: Readonly<Record<string, string>> = Object.fromEntries(
  readdirSync(FOLDER)
    .sort()
    .map((name) => [name, readFileSync(new URL(name, FOLDER), 'utf8')]),
);

/** The version of a set of scripts: the hash of names and contents. */
export function versionOf(scripts: Readonly<Record<string, string>>): string {
  const hash = createHash('sha256');
  for (const [name, text] of Object.entries(scripts)) hash.update(`${name}\0${text}\0`);
  return hash.digest('hex').slice(0, 16);
}

export const SCRIPTS_VERSION = versionOf(SCRIPTS);

/**
 * argv that runs one of the scripts inside a server; whatever follows is data to it.
 * Named by its shell: a mounted file may stand on a file system that runs nothing.
 */
export function scriptCall(name: string, ...args: string[]): string[] {
  if (!(name in SCRIPTS)) throw new Error(`There is no script ${name}`);
  return ['/bin/sh', `${SCRIPTS_FOLDER}/${name}`, ...args];
}

/** What of a ConfigMap carries the scripts. It can never change: a newer service gives newer scripts to newer servers only. */
export function scriptsData(): Pick<V1ConfigMap, 'data' | 'immutable'> & { labels: Record<string, string> } {
  return { data: { ...SCRIPTS }, immutable: true, labels: { [LABEL.scripts]: SCRIPTS_VERSION } };
}
