/** A lean scene for a whole test file. */
import { afterAll, beforeAll } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { makeScratch, removeScratch } from '../../support/scratch.ts';
import { LeanScene } from './scene.ts';

/** Open one before the file's tests, over a database of its own, hand it over, and end it after them. */
export function openLeanScene(name: string, take: (scene: LeanScene) => void): void {
  let folder: string;
  let test: TestDatabase | undefined;
  let scene: LeanScene | undefined;
  beforeAll(async () => {
    folder = makeScratch(name);
    test = await createTestDatabase();
    scene = new LeanScene(test.config, folder);
    await scene.open();
    take(scene);
  });
  afterAll(async () => {
    await scene?.stop();
    await test?.drop();
    await removeScratch(folder);
  });
}
