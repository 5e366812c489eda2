/** The image as a kind of actor: one build for many requesters. */
import { type ImageEffect, ImageEffect as ImageEffects, ImageEvent } from '../../machines/image.events.ts';
import { imageMachine, intentsOfImage } from '../../machines/image.machine.ts';
import { lastLineAt } from '../../persistence/build-log.ts';
import type { Store } from '../../persistence/database.ts';
import { NotYet } from '../errors.ts';
import type { ActorKind, EffectHandler } from '../kernel/kind.ts';
import type { ImageBuilder } from './ports.ts';
import { noteProgress } from './progress.ts';

export interface ImagePorts {
  db: Store;
  builder: ImageBuilder;
}

type Effect<T extends ImageEffect['type']> = Extract<ImageEffect, { type: T }>;

/** How often a running build is looked at, in milliseconds. */
const LOOK_AGAIN = 500;

/** The kind `image`; its ids are hashes of build contexts. */
export function imageKind({ db, builder }: ImagePorts): ActorKind {
  const handlers: Record<ImageEffect['type'], EffectHandler> = {
    'image.build': async ({ hash, attempt, owner }: Effect<'image.build'>) => {
      const progress = await builder.build({ hash, attempt, owner, lastLine: () => lastLineAt(db, hash, attempt) });
      if (progress.lines !== undefined)
        await noteProgress(db, { hash, attempt }, progress.lines, progress.state === 'running' ? progress.detail : null);
      if (progress.state === 'running') throw new NotYet(LOOK_AGAIN, progress.detail);
      if (progress.state === 'failed') return { type: 'build.failed', attempt, reason: progress.reason } as { type: string };
      return { type: 'build.succeeded', attempt, image: progress.image } as { type: string };
    },
    'image.cancel': async ({ hash, attempt }: Effect<'image.cancel'>) => {
      await builder.cancel({ hash, attempt });
      return null;
    },
  };
  return {
    kind: 'image',
    version: 1,
    machine: imageMachine,
    events: ImageEvent,
    birth: 'image.opened',
    input: (event) => ({ hash: event['hash'] }),
    intents: (action, context, event, before) => intentsOfImage(action, context, event as never, before),
    effects: ImageEffects,
    migrations: {},
    context: null,
    handlers,
    retry: { 'image.build': { attempts: Number.POSITIVE_INFINITY, firstMs: 200, longestMs: 5_000 } },
    effectFailed: (effect, reason) =>
      effect.type === 'image.build' ? ({ type: 'build.failed', attempt: effect['attempt'], reason } as { type: string }) : null,
  };
}
