/** Everything that a batch of turns has decided, gathered before it is written in one breath. */
import type { Intent } from '../../machines/authoring.ts';
import { type ActorRow, type ActorUpdate, updateActors } from '../../persistence/actor-store.ts';
import type { Transaction } from '../../persistence/database.ts';
import { applyDeadlines, clearDeadlinesOf, type DeadlineChange } from '../../persistence/deadlines.ts';
import { appendHistory, type HistoryEntry } from '../../persistence/history.ts';
import { type Message, removeMail, sendMail } from '../../persistence/mailbox.ts';
import { addEffects, type LeasedEffect, type LeaseWish, type NewEffect } from '../../persistence/outbox.ts';
import type { ActorKind, Change } from './kind.ts';
import { parseAddress } from './kind.ts';
import { topState } from './revive.ts';
import { type LiveActor, type StepResult, UnprocessableError } from './turn.ts';

/** An actor of the batch: as it was locked, and as it is now. */
export interface HeldActor {
  row: ActorRow;
  live: LiveActor;
  before: LiveActor['stored'];
  changed: boolean;
}

/** Who may lease effects as they are written: with which token, for how long, how many. */
export interface Leaser {
  token: string;
  seconds: number;
  room: number;
  types: ReadonlySet<string>;
}

export class Decisions {
  readonly actors = new Map<string, HeldActor>();
  readonly history: HistoryEntry[] = [];
  readonly effects: NewEffect[] = [];
  readonly deadlines = new Map<string, DeadlineChange>();
  /** To be put into mailboxes at the end, unless their receivers take their turn in this batch. */
  messages: Message[] = [];
  readonly records = new Map<ActorKind, { id: string; entry: { type: string }; at: Date }[]>();
  readonly processed: { actor: string; id: number }[] = [];

  /** Take in what one step of a machine did. @throws UnprocessableError if an effect has the wrong shape. */
  add({ actor, entry, intents }: StepResult, now: Date): void {
    this.history.push(entry);
    let index = 0;
    for (const intent of intents) this.#collect(actor, intent, index++, now);
  }

  /** The deadline has done its work, or is stale. */
  clearDeadline(actor: string, name: string): void {
    this.deadlines.set(deadlineKey(actor, name), { actor, name, dueAt: null, setSeq: 0 });
  }

  /** True if this batch has set or cleared the deadline. */
  hasMoved(actor: string, name: string): boolean {
    return this.deadlines.has(deadlineKey(actor, name));
  }

  #collect(actor: LiveActor, intent: Intent, index: number, now: Date): void {
    const { kind } = actor;
    switch (intent.do) {
      case 'effect': {
        const checked = kind.effects?.safeParse(intent.effect);
        if (checked !== undefined && !checked.success) {
          throw new UnprocessableError('GPU_EFFECT_INVALID', `${intent.effect.type}: ${checked.error.message}`);
        }
        const { lane, replaces, effect: params } = intent;
        const effectId = `${actor.actor}:${actor.seq}:${index}`;
        this.effects.push({ effectId, actor: actor.actor, seq: actor.seq, index, type: params.type, lane, replaces, params });
        break;
      }
      case 'deadline':
      case 'clear': {
        const { name } = intent;
        const dueAt = intent.do === 'deadline' ? intent.at : null;
        this.deadlines.set(deadlineKey(actor.actor, name), { actor: actor.actor, name, dueAt, setSeq: actor.seq });
        break;
      }
      case 'send':
        this.messages.push({
          actor: intent.to,
          key: `${actor.actor}:${actor.seq}:${index}`,
          event: intent.event,
          sender: actor.actor,
        });
        break;
      case 'record': {
        const entries = this.records.get(kind) ?? [];
        entries.push({ id: parseAddress(actor.actor).id, entry: intent.entry, at: now });
        this.records.set(kind, entries);
        break;
      }
    }
  }

  /**
   * Write it all. Statements go out without waiting, and the commit may follow them: the transaction fails if one of them does.
   * @returns the effects that were leased as they were written, to be awaited behind the commit.
   */
  async write(
    tx: Transaction,
    now: Date,
    clockNow: Date | null,
    leaser: Leaser | null,
  ): Promise<{ leased: Promise<LeasedEffect[]> }> {
    const { updates, changes } = this.#changed(now);
    const ended = new Set(updates.filter((update) => update.status === 'done').map((update) => update.actor));
    updateActors(tx, updates, now);
    appendHistory(tx, this.history, now);
    applyDeadlines(
      tx,
      [...this.deadlines.values()].filter((change) => !ended.has(change.actor)),
    );
    clearDeadlinesOf(tx, [...ended]);
    sendMail(tx, this.messages, clockNow);
    removeMail(tx, this.processed);
    const leased = addEffects(tx, this.effects, now, leaser === null ? null : this.#wish(leaser, clockNow)).then((ids) =>
      this.#leased(ids, now),
    );
    // A failure of what comes between must not leave it unheard.
    leased.catch(() => {});
    for (const [kind, list] of changes) await kind.project?.(tx, list);
    for (const [kind, entries] of this.records) await kind.record?.(tx, entries);
    return { leased };
  }

  #leased(ids: ReadonlySet<string>, now: Date): LeasedEffect[] {
    return this.effects
      .filter((effect) => ids.has(effect.effectId))
      .map(({ effectId, actor, type, params }) => ({
        effectId,
        actor,
        type,
        params: params as LeasedEffect['params'],
        attempts: 0,
        createdAt: now,
      }));
  }

  #changed(now: Date): { updates: ActorUpdate[]; changes: Map<ActorKind, Change[]> } {
    const updates: ActorUpdate[] = [];
    const changes = new Map<ActorKind, Change[]>();
    for (const { row, live, before, changed } of this.actors.values()) {
      updates.push({
        actor: row.actor,
        machineVersion: live.kind.version,
        seq: live.seq,
        status: live.stored?.status ?? 'unborn',
        state: live.stored === null ? null : topState(live.stored.value),
        snapshot: changed ? live.stored : null,
      });
      if (changed && live.stored !== null) {
        const list = changes.get(live.kind) ?? [];
        list.push({ id: parseAddress(row.actor).id, seq: live.seq, before, after: live.stored, at: now });
        changes.set(live.kind, list);
      }
    }
    return { updates, changes };
  }

  /** The first effect of each lane, as far as there is room. */
  #wish({ token, seconds, room, types }: Leaser, from: Date | null): LeaseWish {
    const lanes = new Set<string>();
    const wanted = new Set<string>();
    for (const { effectId, actor, lane, type } of this.effects) {
      const laneKey = `${actor}\n${lane}`;
      if (wanted.size < room && types.has(type) && !lanes.has(laneKey)) wanted.add(effectId);
      lanes.add(laneKey);
    }
    return { token, seconds, from, wanted };
  }
}

function deadlineKey(actor: string, name: string): string {
  return `${actor}\n${name}`;
}
