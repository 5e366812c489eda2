import type { World } from './world.ts';

/** A stored file of the simulated file systems. */
export interface StoredFile {
  text: string;
  at: number;
}

/** File trees are side tables: one for each volume, disk snapshot, pod volume and container. */
export const tree = {
  volume: (name: string): string => `volume/${name}`,
  snapshot: (content: string): string => `snapshot/${content}`,
  pod: (uid: string, part: string): string => `pod/${uid}/${part}`,
};

const table = (name: string): string => `files:${name}`;

export function readFile(world: World, name: string, path: string): StoredFile | undefined {
  return world.store.side.get(table(name), path);
}

export function writeFile(world: World, name: string, path: string, text: string): void {
  world.store.side.set(table(name), path, { text, at: world.store.now } satisfies StoredFile);
}

export function removeFile(world: World, name: string, path: string): void {
  world.store.side.delete(table(name), path);
}

export function listFiles(world: World, name: string): string[] {
  return world.store.side.keys(table(name)).sort();
}

/** As it is, with its time. */
export function copyFile(world: World, from: string, path: string, to: string, newPath: string): void {
  const file = readFile(world, from, path);
  if (file !== undefined) world.store.side.set(table(to), newPath, file);
}

export function copyTree(world: World, from: string, to: string): void {
  for (const [path, file] of world.store.side.entries(table(from))) world.store.side.set(table(to), path, file);
}

export function dropTree(world: World, name: string): void {
  world.store.side.drop(table(name));
}
