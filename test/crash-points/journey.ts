/**
 * A path of a model as it travels through the real kernel: each event comes by the way by which it comes in service, if there is one. A wish of
 * a user comes by the queue, a deadline is fired by the sweeper, a result is the answer of the effect that was asked for; only the rest is
 * posted. Which effect answers what is found out beforehand, with the pure machine.
 */
import { isDeepStrictEqual } from 'node:util';
import type { ActorKind } from '../../actors/kernel/kind.ts';
import { type LiveActor, takeTurn } from '../../actors/kernel/turn.ts';
import type { Intent } from '../../machines/authoring.ts';
import type { Case } from '../model/graph.ts';
import type { Path } from '../model/paths.ts';
import { RESULTS, THROWN, WISHES } from './ways.ts';

export type Way = 'queue' | 'sweep' | 'effect' | 'post';

export interface Stage {
  event: Case;
  way: Way;
  /** Stages of one round follow from each other without anything from outside. */
  round: number;
}

/** What an effect of a journey answers. One that has no answer ends in silence. */
export interface Answer {
  event: Case;
  /** The round in which it answers; it is not ready before. */
  round: number;
}

export interface Journey {
  kind: ActorKind;
  /** Among all journeys. */
  number: number;
  actor: string;
  id: string;
  stages: Stage[];
  /** By effect id. */
  answers: Map<string, Answer>;
}

/** When a round takes place. */
export const timeOf = (round: number) => new Date(Date.parse('2026-03-02T10:00:00.000Z') + round * 250);

type EffectIntent = Extract<Intent, { do: 'effect' }>;

/** An effect that was asked for, in the plan. */
interface Asked {
  effectId: string;
  seq: number;
  lane: string;
  effect: Case;
  /** It has answered, or never will. */
  over: boolean;
}

/** The plan of one actor's journey, event by event. */
export class Plan {
  readonly journey: Journey;
  /** The actor as it will be. */
  twin: LiveActor;
  readonly #asked: Asked[] = [];
  readonly #deadlines = new Set<string>();
  #round = -1;

  constructor(kind: ActorKind, number: number, id: string) {
    const actor = `${kind.kind}/${id}`;
    this.journey = {
      kind,
      number,
      actor,
      id,
      stages: [],
      answers: new Map(),
    };
    this.twin = { actor, kind, seq: 0, stored: null, live: null };
  }

  /** @returns the way by which this event will come. */
  add(event: Case): Way {
    const { kind, actor, stages, answers } = this.journey;
    const effect = takeAnswer(kind, this.#asked, event);
    // What the last stage asked for answers in its round; anything else is a round of its own.
    if (effect === null || effect.seq !== this.twin.seq) this.#round++;
    if (effect !== null) answers.set(effect.effectId, { event, round: this.#round });
    const way = effect !== null ? 'effect' : wayOf(event, this.#deadlines);
    stages.push({ event, way, round: this.#round });
    const mail = { id: 0, actor, key: '', event, sender: '', sentAt: null };
    const { actor: next, intents } = takeTurn(this.twin, mail, { ...event, at: timeOf(this.#round).toISOString() });
    this.twin = next;
    for (const [index, intent] of intents.entries())
      note(intent, `${actor}:${next.seq}:${index}`, next.seq, this.#asked, this.#deadlines);
    // Whether one sets itself anew may be decided by rows, which this path has not.
    if (event.type.startsWith('deadline.')) this.#deadlines.delete(nameOf(event));
    if (next.stored?.status === 'done') this.#deadlines.clear();
    return way;
  }

  /** Whether an effect that was asked for can answer this, or it is a deadline that stands. */
  brings(event: Case): boolean {
    return findAnswer(this.journey.kind, this.#asked, event) !== undefined || wayOf(event, this.#deadlines) === 'sweep';
  }
}

/** Plan the journey of one actor along a path whose ids are its own already. */
export function planJourney(kind: ActorKind, path: Path, number: number, id: string): Journey {
  const plan = new Plan(kind, number, id);
  for (const event of path.events) plan.add(event);
  return plan.journey;
}

function wayOf(event: Case, deadlines: ReadonlySet<string>): Way {
  if (WISHES.has(event.type)) return 'queue';
  return event.type.startsWith('deadline.') && deadlines.has(nameOf(event)) ? 'sweep' : 'post';
}

/** The name of the deadline of this event. */
export function nameOf(event: { type: string }): string {
  return event.type.slice('deadline.'.length);
}

function note(intent: Intent, effectId: string, seq: number, asked: Asked[], deadlines: Set<string>): void {
  if (intent.do === 'deadline') deadlines.add(intent.name);
  if (intent.do === 'clear') deadlines.delete(intent.name);
  if (intent.do !== 'effect') return;
  const { lane, replaces, effect } = intent as EffectIntent;
  if (replaces) for (const earlier of asked) if (earlier.lane === lane) earlier.over = true;
  asked.push({ effectId, seq, lane, effect: effect as Case, over: false });
}

/** The effect whose result this is, if one can answer it; those before it in its lane end in silence. */
function takeAnswer(kind: ActorKind, asked: readonly Asked[], event: Case): Asked | null {
  const found = findAnswer(kind, asked, event);
  if (found === undefined) return null;
  for (const other of asked) {
    other.over ||= other.lane === found.lane && other.seq <= found.seq;
    if (other === found) break;
  }
  return found;
}

function findAnswer(kind: ActorKind, asked: readonly Asked[], event: Case): Asked | undefined {
  return asked.find(({ over, effect }) => !over && isAnswer(kind, effect, event));
}

/** Whether this effect can have this result: of its life, its round, its attempt. */
function isAnswer(kind: ActorKind, effect: Case, event: Case): boolean {
  if (!(RESULTS[effect.type] ?? []).includes(event.type)) return false;
  if (THROWN.has(event.type)) return isDeepStrictEqual(kind.effectFailed?.(effect as never, String(event['reason'])), event);
  return OF_ONE_LIFE.every((field) => !(field in event) || !(field in effect) || effect[field] === event[field]);
}

const OF_ONE_LIFE = ['generation', 'round', 'attempt', 'snapshotId'];
