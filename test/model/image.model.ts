/** The model of an image: one build for many requesters. */
import type { AnyMachineSnapshot } from 'xstate';
import { parseAddress } from '../../actors/kernel/kind.ts';
import type { ImageContext } from '../../machines/image.machine.ts';
import { KINDS, promise, type Promises, type Step } from './drive.ts';
import type { Model, Scenario } from './explore.ts';
import { type Case, statePath } from './graph.ts';

const PEOPLE = ['ada', 'bob', 'eve'];

const contextOf = (snapshot: AnyMachineSnapshot) => snapshot.context as ImageContext;

const ofAttempt = (attempt: number): Case[] => [
  { type: 'build.progress', attempt, detail: 'step 2 of 5' },
  { type: 'build.succeeded', attempt, image: 'images/abc' },
  { type: 'build.failed', attempt, reason: 'no such package' },
];

function events(snapshot: AnyMachineSnapshot): Case[] {
  return [
    ...PEOPLE.flatMap((reservationId): Case[] => [
      { type: 'image.requested', reservationId, owner: 'ada' },
      { type: 'image.withdrawn', reservationId },
    ]),
    ...ofAttempt(contextOf(snapshot).attempt),
    ...(snapshot.value === 'building' ? [{ type: 'deadline.building' }] : []),
  ];
}

export const IMAGE_SCENARIOS: Scenario[] = [{ name: 'an image', birth: { type: 'image.opened', hash: 'abc' }, events }];

export interface ImageMemory {
  waiting: readonly string[];
  builds: number;
  /** A build of ours runs. */
  running: boolean;
}

function check(memory: ImageMemory, { event, before, after, intents }: Step): ImageMemory {
  const context = contextOf(after);
  const path = statePath(after.value);
  const from = before === null ? '' : statePath(before.value);
  const next = { ...memory };
  const told = intents.flatMap((intent) =>
    intent.do === 'send' ? [{ id: parseAddress(intent.to).id, type: intent.event.type }] : [],
  );
  const id = String(event['reservationId']);
  if (event.type === 'image.requested' && from !== 'ready' && !memory.waiting.includes(id))
    next.waiting = [...memory.waiting, id];
  if (event.type === 'image.withdrawn') next.waiting = memory.waiting.filter((other) => other !== id);
  for (const intent of intents) {
    if (intent.do !== 'effect') continue;
    if (intent.effect.type === 'image.build') {
      promise(!memory.running, 'two builds at once');
      Object.assign(next, { running: true, builds: memory.builds + 1 });
    } else next.running = false;
  }
  if (path !== 'building' && ['build.succeeded', 'build.failed'].includes(event.type)) next.running = false;
  promise(next.running === (path === 'building'), `${path}, and a build ${next.running ? 'runs' : 'does not run'}`);
  promise(context.attempt === next.builds, 'an attempt that builds nothing');
  if (from === 'building' && path !== 'building' && next.waiting.length > 0) {
    const expected = path === 'ready' ? 'image.ready' : 'image.failed';
    promise(
      JSON.stringify(told.filter(({ type }) => type === expected).map((one) => one.id)) === JSON.stringify(next.waiting),
      `not everybody hears ${expected}`,
    );
    next.waiting = [];
  }
  if (path === 'building') {
    promise(JSON.stringify(context.waiters) === JSON.stringify(next.waiting), 'somebody is forgotten');
    promise(next.waiting.length > 0, 'a build for nobody');
  } else promise(context.waiters.length === 0, `${path}, and somebody waits`);
  if (from === 'ready' && event.type === 'image.requested')
    promise(told.length === 1 && told[0]!.id === id, 'a late requester is not told');
  return next;
}

export const imagePromises: Promises<ImageMemory> = { start: { waiting: [], builds: 0, running: false }, check };

export const imageModel: Model<ImageMemory> = {
  kind: KINDS.image,
  scenarios: IMAGE_SCENARIOS,
  key: (snapshot) => {
    const { waiters, attempt, image } = contextOf(snapshot);
    return JSON.stringify([snapshot.value, waiters, Math.min(attempt, 2), image]);
  },
  promises: imagePromises,
  late: (snapshot) => ofAttempt(contextOf(snapshot).attempt - 1),
};
