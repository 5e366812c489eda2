import { assign, createMachine, log, raise, sendTo, setup, type AnyStateMachine } from 'xstate';
import { describe, expect, it } from 'vitest';
import { diskMachine } from '../../machines/disk.machine.ts';
import { poolMachine } from '../../machines/gpu-pool.machine.ts';
import { imageMachine } from '../../machines/image.machine.ts';
import { reservationMachine } from '../../machines/reservation.machine.ts';
import { type RuleOptions, violations } from '../../machines/rules.ts';

const MACHINES: [AnyStateMachine, RuleOptions][] = [
  [reservationMachine, {}],
  [poolMachine, {}],
  [diskMachine, { pending: ['deleteVolume'] }],
  [imageMachine, {}],
];

it.each(MACHINES)('the machine $id obeys every rule', (machine, options) => {
  expect(violations(machine, options)).toEqual([]);
});

/** A machine that obeys every rule but what `changes` plants. */
function planted(
  changes: Record<string, unknown>,
  things: { actions?: object; guards?: object; setup?: object } = {},
): AnyStateMachine {
  const base = setup({
    actions: { note: assign({ n: 1 }), told: () => {}, startLimit: () => {}, ...things.actions } as never,
    guards: { yes: () => true, ...things.guards } as never,
    ...things.setup,
  } as never);
  return base.createMachine({
    id: 'planted',
    version: '1',
    description: 'A machine.',
    context: () => ({ n: 0 }),
    options: { maxIterations: 100 },
    initial: 'a',
    states: {
      a: { description: 'First.', tags: ['resting'], on: { go: { target: 'b', actions: ['note', 'told'], guard: 'yes' } } },
      b: { description: 'Last.', type: 'final' },
    },
    ...changes,
  } as never) as unknown as AnyStateMachine;
}
const a = (state: Record<string, unknown>) => ({
  states: { a: { description: 'First.', tags: ['resting'], ...state }, b: { description: 'Last.', type: 'final' } },
});

describe('a planted violation is found:', () => {
  it('none in a machine that obeys', () => {
    expect(violations(planted({}))).toEqual([]);
  });

  it.each<[string, AnyStateMachine, RegExp]>([
    ['an inline action', planted(a({ entry: () => {} })), /planted\.a: an inline action/],
    ['an inline assign', planted(a({ on: { go: { actions: assign({ n: 2 }) } } })), /planted\.a on go: an inline action/],
    ['an inline guard', planted(a({ on: { go: { guard: () => true, target: 'b' } } })), /on go: an inline guard/],
    ['an action that setup does not know', planted(a({ exit: 'unknown' })), /the action unknown is not in setup/],
    [
      'a guard that setup does not know',
      planted(a({ always: { guard: 'unknown', target: 'b' } })),
      /the guard unknown is not in setup/,
    ],
    [
      'params that are no JSON',
      planted(a({ entry: { type: 'told', params: { at: new Date(0) } } })),
      /the params of told are not JSON/,
    ],
    ['an invoke', planted(a({ invoke: { src: 'x' } })), /invokes an actor/],
    ['an after', planted(a({ after: { 1000: 'b' } })), /waits with after/],
    ['sendTo', planted({}, { actions: { told: sendTo('x', { type: 'y' }) } }), /the action told is xstate\.sendTo/],
    ['log', planted({}, { actions: { told: log('x') } }), /the action told is xstate\.log/],
    ['raise with a delay', planted({}, { actions: { told: raise({ type: 'go' }, { delay: 5 }) } }), /raises with a delay/],
    ['an action that acts', planted({}, { actions: { told: () => void console.info('hello') } }), /acts by itself/],
    ['an assign with a clock', planted({}, { actions: { note: assign({ n: () => Date.now() }) } }), /note is not pure/],
    ['a guard with a die', planted({}, { guards: { yes: () => Math.random() > 0.5 } }), /yes is not pure/],
    ['a delay', planted({}, { setup: { delays: { soon: 5 } } }), /there is a delay: soon/],
    ['an actor to spawn', planted({}, { setup: { actors: { child: createMachine({}) } } }), /an actor to spawn: child/],
    ['no maxIterations', planted({ options: {} }), /no maxIterations/],
    ['no version', planted({ version: undefined }), /no whole number as version/],
    ['no description of a state', planted(a({ description: ' ' })), /planted\.a has no description/],
    ['no description of the machine', planted({ description: undefined }), /planted has no description/],
    ['a way out of the root', planted({ on: { go: '.a' } }), /planted\.b is final, and planted has a way out/],
    [
      'a way out of an end',
      planted({ states: { a: { description: 'x', type: 'final', on: { go: 'a' } } } }),
      /is final, and planted\.a has a way out/,
    ],
    ['a wildcard', planted(a({ on: { '*': 'b' } })), /a wildcard/],
    ['a state that can hang', planted(a({ tags: [] })), /planted\.a can wait for ever/],
    ['a context with a date', planted({ context: () => ({ at: new Date(0) }) }), /the context is not JSON/],
    ['a context with undefined', planted({ context: () => ({ at: undefined }) }), /the context is not JSON/],
    [
      'a context that needs its input',
      planted({ context: ({ input }: { input: { n: number } }) => ({ n: input.n }) }),
      /cannot be made without input/,
    ],
  ])('%s', (_what, machine, message) => {
    expect(violations(machine).join('\n')).toMatch(message);
  });

  it('a state is bounded by its own limit, by its ancestor, or by a pending effect', () => {
    const inner = (entry: unknown) => ({
      states: {
        a: { description: 'x', entry, initial: 'c', states: { c: { description: 'y' } } },
        b: { description: 'z', type: 'final' },
      },
    });
    expect(violations(planted(inner('startLimit')))).toEqual([]);
    expect(violations(planted(inner('told')))).toHaveLength(1);
    expect(violations(planted(inner('told')), { pending: ['told'] })).toEqual([]);
  });
});
