/** Events of a GPU pool, one actor per GPU type. The pool's ledger is rows; the decision of a turn is part of the event that history keeps. */
import { z } from 'zod';
import { type Stamp, shape } from './authoring.ts';
import { GangMembership, Grant } from './reservation.context.ts';

const reservationId = z.string();
const generation = z.number().int();

/** What the planner decided over the ledger's rows, in the transaction of the turn. Filled in by the kernel's `prepare`, never by a sender. */
export const PoolDecision = z.object({
  grants: z.array(z.object({ reservationId, generation, grant: Grant })),
  refusals: z.array(z.object({ reservationId, generation, reason: z.string() })),
  gangComplete: z.array(reservationId),
  gangBroken: z.array(
    z.object({
      reservationId,
      reason: z.string(),
      outcome: z.enum(['failed', 'cancelled']),
      /** The reason is its own: it does not fit into the gang. Left out: that of another member. */
      own: z.boolean().optional(),
    }),
  ),
  extension: z.object({ reservationId, allowed: z.boolean(), reason: z.string() }).nullable(),
  /** The submission up to which the line was looked at, and when, ISO 8601; null if to its end. Missing in what was decided before it was told. */
  planned: z.object({ to: z.string(), at: z.string() }).nullable().optional(),
});
export type PoolDecision = z.infer<typeof PoolDecision>;

const decision = PoolDecision.optional();

export const PoolEvent = z.discriminatedUnion('type', [
  /** The birth of the pool of one GPU type. */
  shape('pool.opened', { gpuType: z.string() }),
  shape('capacity.requested', {
    reservationId,
    owner: z.string(),
    generation,
    slots: z.number().int().min(1),
    cpuMillis: z.number().int(),
    memoryBytes: z.number().int(),
    durationHours: z.number(),
    nodeLabels: z.record(z.string(), z.string()),
    /** The disk that it is to have: its volume may be where few nodes are. */
    diskId: z.string().nullable().optional(),
    gang: GangMembership.nullable(),
    submittedAt: z.string(),
    decision,
  }),
  /** The reservation ended before it saw a grant: it has no pod. */
  shape('capacity.withdrawn', { reservationId, reason: z.string(), decision }),
  /** The pod is confirmed gone: its slots are free. */
  shape('capacity.returned', { reservationId, generation, decision }),
  shape('extension.asked', {
    reservationId,
    generation,
    hours: z.number(),
    expiresAt: z.string(),
    ask: z.number().int(),
    decision,
  }),
  /** A gang is its owner's. Owner and place are missing in what was sent before they were told. */
  shape('gang.joined', {
    reservationId,
    owner: z.string().optional(),
    gangId: z.string(),
    index: z.number().int().optional(),
    size: z.number().int(),
    decision,
  }),
  shape('gang.left', { reservationId, reason: z.string(), outcome: z.enum(['failed', 'cancelled']), decision }),
  /** Nodes of the type came, went, filled or drained. */
  shape('nodes.changed', { nodes: z.array(z.string()), decision }),
  /** Maintenance: from now or a later moment on, for ever or until a moment, of everybody but some users. */
  shape('pool.paused', {
    reason: z.string(),
    by: z.string(),
    from: z.string().nullable().optional(),
    until: z.string().nullable().optional(),
    allowed: z.array(z.string()).optional(),
    decision,
  }),
  shape('pool.resumed', { by: z.string(), decision }),
  shape('deadline.maintenanceBegins', { decision }),
  shape('deadline.maintenanceEnds', { decision }),
  shape('deadline.refresh', { decision }),
]);
export type PoolMessage = z.infer<typeof PoolEvent>;
export type PoolEvent = PoolMessage & Stamp;
