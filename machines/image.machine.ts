/** One image build for many requesters: N requests, one build; the last requester to leave cancels it. */
import { assign, setup } from 'xstate';
import { address, clear, deadline, effect, type Intent, limitEnd, MINUTE, send } from './authoring.ts';
import type { ImageEffect, ImageEvent } from './image.events.ts';

export interface ImageContext {
  hash: string;
  attempt: number;
  /** Reservations that wait for the build. */
  waiters: string[];
  owner: string;
  image: string | null;
  reason: string | null;
  detail: string;
}

export interface ImageInput {
  hash: string;
}

/** Time limit of a build, in milliseconds. */
export const BUILD_LIMIT = 15 * MINUTE;

export const imageMachine = setup({
  types: {
    context: {} as ImageContext,
    events: {} as ImageEvent,
    input: {} as ImageInput,
    tags: {} as 'resting',
  },
  guards: {
    ofThisAttempt: ({ context, event }) => 'attempt' in event && event.attempt === context.attempt,
    leavesNobody: ({ context, event }) =>
      event.type === 'image.withdrawn' && context.waiters.length === 1 && context.waiters[0] === event.reservationId,
  },
  actions: {
    addWaiter: assign(({ context, event }) =>
      event.type === 'image.requested' && !context.waiters.includes(event.reservationId)
        ? { waiters: [...context.waiters, event.reservationId] }
        : {},
    ),
    dropWaiter: assign(({ context, event }) =>
      event.type === 'image.withdrawn' ? { waiters: context.waiters.filter((id) => id !== event.reservationId) } : {},
    ),
    nextAttempt: assign(({ context, event }) => ({
      attempt: context.attempt + 1,
      owner: event.type === 'image.requested' ? event.owner : context.owner,
      reason: null,
      detail: 'Starting the build',
    })),
    noteProgress: assign(({ event }) => (event.type === 'build.progress' ? { detail: event.detail } : {})),
    keepImage: assign(({ event }) => (event.type === 'build.succeeded' ? { image: event.image, detail: 'Built' } : {})),
    keepReason: assign(({ event }) => ({
      reason: event.type === 'build.failed' ? event.reason : 'The build did not end within 15 minutes',
      detail: 'Failed',
    })),
    forgetWaiters: assign({ waiters: [] }),
    build: () => {},
    cancelBuild: () => {},
    startLimit: () => {},
    clearLimit: () => {},
    tellReady: () => {},
    tellRequesterReady: () => {},
    tellProgress: () => {},
    tellFailed: () => {},
  },
}).createMachine({
  id: 'image',
  version: '1',
  description: 'A container image built from one build context.',
  context: ({ input }: { input: ImageInput | undefined }) => ({
    hash: input?.hash ?? '',
    attempt: 0,
    waiters: [],
    owner: '',
    image: null,
    reason: null,
    detail: '',
  }),
  options: { maxIterations: 100 },
  initial: 'idle',
  states: {
    idle: {
      description: 'Nobody asks for it.',
      tags: ['resting'],
      on: { 'image.requested': { target: 'building', actions: ['addWaiter', 'nextAttempt'] } },
    },
    building: {
      description: 'A build runs; requesters are told how far it is.',
      entry: ['build', 'startLimit'],
      exit: 'clearLimit',
      on: {
        'image.requested': { actions: ['addWaiter', 'tellProgress'] },
        'image.withdrawn': [
          { guard: 'leavesNobody', target: 'idle', actions: ['dropWaiter', 'cancelBuild'] },
          { actions: 'dropWaiter' },
        ],
        'build.progress': { guard: 'ofThisAttempt', actions: ['noteProgress', 'tellProgress'] },
        'build.succeeded': { guard: 'ofThisAttempt', target: 'ready', actions: ['keepImage', 'tellReady'] },
        'build.failed': { guard: 'ofThisAttempt', target: 'failed', actions: ['keepReason', 'tellFailed'] },
        'deadline.building': { target: 'failed', actions: ['keepReason', 'cancelBuild', 'tellFailed'] },
      },
    },
    ready: {
      description: 'Built and pushed: requesters get it at once.',
      tags: ['resting'],
      entry: 'forgetWaiters',
      on: { 'image.requested': { actions: 'tellRequesterReady' } },
    },
    failed: {
      description: 'The last build failed; the next request tries again.',
      tags: ['resting'],
      entry: 'forgetWaiters',
      on: { 'image.requested': { target: 'building', actions: ['addWaiter', 'nextAttempt'] } },
    },
  },
});

/**
 * The intents behind an action of an image. `before` is the context before the step: the list of waiters is emptied by the same step that tells them.
 */
export function intentsOfImage(
  action: { type: string },
  context: ImageContext,
  event: ImageEvent,
  before: ImageContext,
): Intent<ImageEffect>[] {
  const { hash, attempt, owner } = context;
  const tell = (ids: string[], message: { type: string }) => ids.map((id) => send(address('reservation', id), message));
  switch (action.type) {
    case 'build':
      return [effect({ type: 'image.build', hash, attempt, owner }, { lane: 'build' })];
    case 'cancelBuild':
      return [effect({ type: 'image.cancel', hash, attempt }, { lane: 'build', replaces: true })];
    case 'startLimit':
      return [deadline('building', limitEnd(event, BUILD_LIMIT))];
    case 'clearLimit':
      return clear('building');
    case 'tellReady':
      return tell(before.waiters, { type: 'image.ready', image: context.image } as { type: string });
    case 'tellRequesterReady':
      return event.type === 'image.requested'
        ? tell([event.reservationId], { type: 'image.ready', image: context.image } as { type: string })
        : [];
    case 'tellProgress':
      return tell(context.waiters, { type: 'image.progress', detail: context.detail } as { type: string });
    case 'tellFailed':
      return tell(before.waiters, { type: 'image.failed', reason: context.reason } as { type: string });
    default:
      throw new Error(`image: the action ${action.type} has no meaning`);
  }
}
