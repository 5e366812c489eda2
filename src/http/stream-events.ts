/** What a stream tells: schemas for the description, and how a step becomes an event. */
import { z } from 'zod';
import type { Step } from '../../persistence/changes.ts';
import { bodyOf } from './event-stream.ts';
import { ReservationView } from './reservation-view.ts';

const Moment = z.string().meta({ format: 'date-time' });

/** Data of the events `step`, `warning` and `end`: one step of a reservation's history. */
export const StepData = z
  .object({
    reservation_id: z.string(),
    seq: z.number().int().meta({ description: 'Number of the step in the history of its reservation, without gaps.' }),
    at: Moment,
    type: z.string().meta({ description: 'The message that made the step.' }),
    outcome: z.enum(['applied', 'ignored', 'refused']),
    reason: z.string().nullable().meta({ description: 'Why it changed nothing, if so.' }),
    from: z.string().nullable(),
    state: z.string().nullable().meta({ description: 'Top-level state after the step.' }),
    substate: z.string().nullable().meta({ description: 'Null where later steps were there already when this one was read.' }),
    detail: z.string().nullable(),
    minutes: z.number().int().nullable().meta({ description: 'Of a warning: how long before the end.' }),
    reservation: ReservationView.nullable().meta({
      description: 'As it is when the step is sent; null where later steps follow.',
    }),
  })
  .meta({ description: 'One step of a reservation.' });

/** Data of the event `snapshot`: where things stand when a stream begins. */
export const SnapshotData = z.object({
  reservations: z.array(ReservationView),
  more: z.boolean().meta({ description: 'Another snapshot event follows with more of them.' }),
});

/** Data of the event `position`: a place in a queue has changed. It is no step, and is not sent again. */
export const PositionData = z.object({
  reservation_id: z.string(),
  position: z.number().int().nullable(),
  estimated_start: Moment.nullable(),
  waits_because: z.string().nullable(),
});

/** Data of the event `reset`: what the client knows cannot be continued; a snapshot follows. */
export const ResetData = z.object({ reason: z.string() });

const WARNING = /^deadline\.warn(\d+)$/;
const ENDS = new Set(['expired', 'failed', 'cancelled']);

/** A step as it goes out, with its text written once for all who get it. */
export interface ReadyStep {
  step: Step;
  view: ReservationView | null;
  body: string;
  /** True for the step by which the reservation ended. */
  ends: boolean;
}

/** Whether a reservation ended by this step. */
export function isEnd({ outcome, from, to }: Step): boolean {
  return outcome === 'applied' && to !== null && ENDS.has(to) && from !== to;
}

/**
 * @param present the reservation as it is now
 * @param isLatest false if later steps of it are known; an end tells of it all the same, since it stays so
 */
export function readyStep(step: Step, present: ReservationView | null, isLatest: boolean): ReadyStep {
  const ends = isEnd(step);
  const view = isLatest || ends ? present : null;
  const [, minutes] = (step.outcome === 'applied' ? WARNING.exec(step.type) : null) ?? [];
  const isPresent = view !== null && view.state === step.to;
  const data: z.infer<typeof StepData> = {
    reservation_id: step.id,
    seq: step.seq,
    at: step.at.toISOString(),
    type: step.type,
    outcome: step.outcome,
    reason: step.reason,
    from: step.from,
    state: step.to,
    substate: isPresent ? view.substate : null,
    detail: isPresent ? view.detail : null,
    minutes: minutes === undefined ? null : Number(minutes),
    reservation: view,
  };
  return { step, view, ends, body: bodyOf(ends ? 'end' : minutes === undefined ? 'step' : 'warning', data) };
}
