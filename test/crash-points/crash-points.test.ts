/**
 * Every crash point × every transition of every machine. All paths of the models go through the real kernel side by side; whenever a crash point
 * is reached and anything is at stake that has not seen a death there, the kernel dies in the process: its sockets are destroyed, its memory
 * is dropped, a new one takes over. In the end the whole database equals that of a run in which nobody died. And once more with a kernel that
 * lives, while the answers to its commits are lost.
 *
 * With GPU_DEV_CRASH_POINTS=alone each point has a run of its own, and each actor goes alone: minutes instead of seconds.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CRASH_POINTS, type CrashPoint } from '../../actors/kernel/crash-points.ts';
import type { ActorKind } from '../../actors/kernel/kind.ts';
import { KINDS } from '../model/drive.ts';
import { transitionNames } from '../model/graph.ts';
import { differences, dumpOf } from './dump.ts';
import type { Journey } from './journey.ts';
import { allJourneys } from './journeys.ts';
import { Run } from './run.ts';
import { Transitions } from './transitions.ts';
import { BY_TIMING, RESULTS, WISHES, WITHOUT_EFFECT } from './ways.ts';

const alone = process.env['GPU_DEV_CRASH_POINTS'] === 'alone';

/** Points that share a run: whoever dies at one of them passes the others later, with the same work. */
const TOGETHER: readonly (readonly CrashPoint[])[] = [
  ['turn.locked', 'effect.afterResult'],
  ['turn.stepped', 'effect.leased'],
  ['turn.beforeCommit', 'effect.done'],
  ['turn.afterCommit', 'sweep.fired', 'intake.beforeCommit'],
];
const RUNS = alone ? CRASH_POINTS.map((point) => [point]) : TOGETHER;
/** The points behind which the next that is asked of the database is a commit. */
const BEFORE_COMMITS: readonly CrashPoint[] = ['intake.beforeCommit', 'turn.beforeCommit', 'effect.done'];
const TIMEOUT = alone ? 1_800_000 : 120_000;

let journeys: Journey[];
let undisturbed: Map<string, string[]>;
let transitions: Transitions;
/** The pairs that were crashed, by point. */
const crashed = new Map<CrashPoint, Set<string>>();

const go = async (run: Run): Promise<void> => {
  if (alone) for (const journey of journeys) await run.go([journey]);
  else await run.go(journeys);
};

beforeAll(async () => {
  journeys = allJourneys();
  const run = await Run.begin([], journeys);
  try {
    await go(run);
    expect(run.strokes).toBe(0);
    undisturbed = await dumpOf(run.db);
    transitions = await Transitions.of(run.db);
  } finally {
    await run.end();
  }
}, TIMEOUT);

afterAll(() => {
  const counts = CRASH_POINTS.map((point) => `${point} ${crashed.get(point)?.size ?? 0}`);
  const all = [...crashed.values()].reduce((sum, pairs) => sum + pairs.size, 0);
  console.info(`pairs of a crash point and a transition in its state: ${all} (${counts.join(', ')})`);
});

describe('a kernel that dies within every transition leaves what it would have left alive, at', () => {
  it.each(RUNS.map((points) => ({ points, names: points.join(', ') })))(
    '$names',
    async ({ points }) => {
      const run = await Run.begin(points, journeys);
      try {
        await go(run);
        expect(differences(undisturbed, await dumpOf(run.db))).toEqual([]);
        expect(run.ranAgain()).toEqual([]);
        for (const point of points) {
          const pairs = transitions.interruptedBy(run.struck.get(point)!.values(), run.sentAs);
          crashed.set(point, pairs);
          expect(
            [...transitions.reachableAt(point)].filter((pair) => !pairs.has(pair)),
            point,
          ).toEqual([]);
        }
        expect(run.strokes).toBeGreaterThan(10 * points.length);
      } finally {
        await run.end();
      }
    },
    TIMEOUT,
  );
});

it(
  'a kernel that lives, and does not hear whether its commits came through, leaves the same',
  async () => {
    const run = await Run.begin(BEFORE_COMMITS, journeys, { fate: 'lost answer' });
    try {
      await go(run);
      expect(differences(undisturbed, await dumpOf(run.db))).toEqual([]);
      for (const point of BEFORE_COMMITS) {
        const pairs = transitions.interruptedBy(run.struck.get(point)!.values(), run.sentAs);
        expect(
          [...transitions.reachableAt(point)].filter((pair) => !pairs.has(pair)),
          point,
        ).toEqual([]);
      }
    } finally {
      await run.end();
    }
  },
  TIMEOUT,
);

describe('no pair is left out at', () => {
  const kinds = Object.values(KINDS) as ActorKind[];
  const typeOf = (name: string) => /--(.+?)\[/.exec(name)![1]!;
  const missing = (point: CrashPoint, role: string, isOnTheWay: (type: string, kind: ActorKind) => boolean) => {
    const pairs = [...(crashed.get(point) ?? [])];
    return kinds.flatMap((kind) =>
      transitionNames(kind.machine)
        .filter((name) => isOnTheWay(typeOf(name), kind))
        .filter((name) => !pairs.some((pair) => pair.startsWith(`${role}${kind.kind}, `) && pair.endsWith(`: ${name}`))),
    );
  };

  it.each(CRASH_POINTS.filter((point) => point.startsWith('turn.')))(
    '%s: every transition of every machine, and every birth',
    (point) => {
      expect(missing(point, '', () => true)).toEqual([]);
      for (const { kind } of kinds) expect(crashed.get(point)).toContain(`${kind}, unborn: --birth--`);
    },
  );

  it('of an effect: each that any machine asks for has its results listed', () => {
    expect(kinds.flatMap(({ handlers }) => Object.keys(handlers)).filter((effect) => RESULTS[effect] === undefined)).toEqual([]);
  });

  it('sweep.fired: every transition that a deadline causes', () => {
    expect(missing('sweep.fired', '', (type) => type.startsWith('deadline.'))).toEqual([]);
  });

  it('intake.beforeCommit: every transition that a wish of a user causes', () => {
    expect(missing('intake.beforeCommit', '', (type) => WISHES.has(type))).toEqual([]);
  });

  it.each(CRASH_POINTS.filter((point) => point.startsWith('effect.')))(
    '%s: every transition that the result of an effect causes',
    (point) => {
      const isResult = (type: string, { handlers }: ActorKind) =>
        Object.entries(RESULTS).some(([effect, results]) => effect in handlers && results.includes(type));
      expect(missing(point, 'before the result of ', isResult).sort()).toEqual([...WITHOUT_EFFECT, ...BY_TIMING].sort());
    },
  );
});
