import { describe, expect, it } from 'vitest';
import { poolMachine } from '../../machines/gpu-pool.machine.ts';
import { imageMachine } from '../../machines/image.machine.ts';
import { explore } from './explore.ts';
import { poolModel } from './gpu-pool.model.ts';
import { transitionNames } from './graph.ts';
import { imageModel } from './image.model.ts';

describe('on every path,', () => {
  it('an image has one build for many requesters, and the last one to leave cancels it', () => {
    const { vertices, taken } = explore(imageModel, imageModel.scenarios[0]!);
    expect(vertices).toBeGreaterThan(15);
    expect(transitionNames(imageMachine).filter((name) => !taken.has(name))).toEqual([]);
  });

  it('a pool tells every decision once, and grants nothing while it is paused', () => {
    const { vertices, taken } = explore(poolModel, poolModel.scenarios[0]!);
    expect(vertices).toBe(10);
    expect(transitionNames(poolMachine).filter((name) => !taken.has(name))).toEqual([]);
  });
});
