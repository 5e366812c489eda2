/** Events of an image: one build for many requesters, named by the hash of its build context. */
import { z } from 'zod';
import { type Stamp, shape } from './authoring.ts';

const attempt = z.number().int();

export const ImageEvent = z.discriminatedUnion('type', [
  /** The birth of the image of one build context. */
  shape('image.opened', { hash: z.string() }),
  shape('image.requested', { reservationId: z.string(), owner: z.string() }),
  shape('image.withdrawn', { reservationId: z.string() }),
  shape('build.progress', { attempt, detail: z.string() }),
  shape('build.succeeded', { attempt, image: z.string() }),
  shape('build.failed', { attempt, reason: z.string() }),
  shape('deadline.building', {}),
]);
export type ImageMessage = z.infer<typeof ImageEvent>;
export type ImageEvent = ImageMessage & Stamp;

/** The closed union of effects of an image. */
export const ImageEffect = z.discriminatedUnion('type', [
  shape('image.build', { hash: z.string(), attempt, owner: z.string() }),
  shape('image.cancel', { hash: z.string(), attempt }),
]);
export type ImageEffect = z.infer<typeof ImageEffect>;
