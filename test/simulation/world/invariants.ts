/** What must hold after every committed transaction, looked for in what the transaction touched. */
import { isFixed, isIn } from '../../../actors/gpu-pool/places.ts';
import type { ActorKind } from '../../../actors/kernel/kind.ts';
import { parseAddress } from '../../../actors/kernel/kind.ts';
import { revive } from '../../../actors/kernel/revive.ts';
import type {
  ActorRow,
  DeadlineRow,
  DeadLetterRow,
  EffectRow,
  HistoryRow,
  MailboxRow,
  NodeRow,
  RequestRow,
  SlotRow,
  Tables,
} from '../store/schema.ts';
import { newestTx, type Slot, type Tx } from '../store/tables.ts';
import type { Pods } from './pods.ts';
import type { Session } from './scheduler.ts';
import { LEASE } from './sim-tracker.ts';
import type { Volumes } from './volumes.ts';

/** Dead letters that users earn. */
const EARNED = new Set(['GPU_RESERVATION_UNKNOWN', 'GPU_EFFECT_FAILED', 'GPU_EFFECT_DEADLY']);

export class Invariants {
  /** Transactions checked. */
  checked = 0;
  readonly #tables: Tables;
  readonly #kinds: ReadonlyMap<string, ActorKind>;
  readonly #pods: Pods;
  readonly #volumes: Volumes;
  readonly #violated: (rule: string, what: string) => void;
  readonly #resting: Map<string, boolean>;
  /** Deadlines that have fired, by actor, name and setting. */
  readonly #fired = new Set<string>();
  /** Of each effect, the newest transaction begun when it last changed. */
  readonly #changed = new Map<string, number>();
  /** Who leases with each token. */
  readonly #lessees = new Map<string, Session>();
  /** Of each sender and receiver, the number of the last message applied. */
  readonly #order = new Map<string, number>();
  readonly #trackerTokens: (session: Session) => number | null;

  constructor(given: {
    tables: Tables;
    kinds: ReadonlyMap<string, ActorKind>;
    pods: Pods;
    volumes: Volumes;
    resting: Map<string, boolean>;
    trackerToken: (session: Session) => number | null;
    violated: (rule: string, what: string) => void;
  }) {
    this.#tables = given.tables;
    this.#kinds = given.kinds;
    this.#pods = given.pods;
    this.#volumes = given.volumes;
    this.#resting = given.resting;
    this.#trackerTokens = given.trackerToken;
    this.#violated = given.violated;
  }

  check(tx: Tx, session: Session): void {
    this.checked++;
    const t = this.#tables;
    const touched = new Set<string>();
    for (const slot of tx.held) {
      if (slot.value === slot.committed) continue;
      switch (slot.table) {
        case t.actors as unknown:
          touched.add(slot.key);
          this.#actor(slot as Slot<ActorRow>);
          break;
        case t.mailbox as unknown:
          this.#mail(slot as Slot<MailboxRow>, touched);
          break;
        case t.effects as unknown:
          this.#effect(slot as Slot<EffectRow>, tx, session, touched);
          break;
        case t.deadlines as unknown:
          this.#deadline(slot as Slot<DeadlineRow>, touched);
          break;
        case t.history as unknown:
          this.#history(slot as Slot<HistoryRow>, tx);
          break;
        case t.slots as unknown:
          this.#gpuSlot(slot as Slot<SlotRow>, tx);
          break;
        case t.requests as unknown:
          this.#granted(slot as Slot<RequestRow>, tx);
          break;
        case t.nodes as unknown:
          this.#node(slot as Slot<NodeRow>, tx, session);
          break;
        case t.deadLetters as unknown:
          this.#letter(slot as Slot<DeadLetterRow>);
          break;
      }
    }
    for (const actor of touched) this.#goesOn(actor, tx);
  }

  /** A disk whose volume is known to stay where it is is granted a node there. */
  #granted({ value, committed }: Slot<RequestRow>, tx: Tx): void {
    if (value?.status !== 'granted' || committed?.status === 'granted') return;
    const labels = this.#tables.nodes.get(value.node!, tx)?.labels ?? {};
    for (const disk of this.#tables.disks.rows(tx)) {
      if (disk.reservationId !== value.reservationId || !isFixed(disk.place) || isIn({ node: value.node!, labels }, disk.place))
        continue;
      this.#violated(
        'a server is granted where its disk is',
        `${value.reservationId} on ${value.node}: ${JSON.stringify(disk.place)}`,
      );
    }
  }

  #actor({ key, value, committed }: Slot<ActorRow>): void {
    if (value === null) return;
    if (committed?.status === 'done' && JSON.stringify(committed.snapshot) !== JSON.stringify(value.snapshot)) {
      this.#violated('an ended actor never changes', key);
    }
    if (value.quarantinedAt !== null) this.#violated('every snapshot revives', `${key}: ${value.quarantineReason}`);
    if (value.kind === 'disk' && value.status === 'active') this.#disk(value);
  }

  /** A disk's newest snapshot is complete in truth. */
  #disk({ actor, state, snapshot }: ActorRow): void {
    const { latestSnapshot } = snapshot!.context as { latestSnapshot: string | null };
    if (latestSnapshot === null || state === 'purging') return;
    const real = this.#volumes.snapshots.get(latestSnapshot);
    if (real?.state !== 'complete') {
      this.#violated(
        'no disk without its last good snapshot',
        `${actor} counts on ${latestSnapshot}, which is ${real?.state ?? 'gone'}`,
      );
    }
  }

  #mail({ value, committed }: Slot<MailboxRow>, touched: Set<string>): void {
    if (value === null && committed !== null) touched.add(committed.actor);
  }

  #effect({ key, value, committed }: Slot<EffectRow>, tx: Tx, session: Session, touched: Set<string>): void {
    if (value === null) return;
    touched.add(value.actor);
    this.#changed.set(key, newestTx());
    if (value.leaseToken !== null) this.#lessees.set(value.leaseToken, session);
    if (committed === null) {
      this.#newEffect(value, tx);
      return;
    }
    if (committed.status !== 'pending' && value.status !== committed.status) {
      this.#violated('an effect ends once', `${key}: ${committed.status}, then ${value.status}`);
    }
    if (value.status === 'done' && committed.status === 'pending' && this.#lessees.get(committed.leaseToken ?? '') !== session) {
      this.#violated('a result is taken from whom the lease belongs to', `${key} was ended by ${session.name}`);
    }
  }

  #newEffect({ effectId, actor, seq, index, lane, replaces }: EffectRow, tx: Tx): void {
    const t = this.#tables;
    const entry = [...t.history.group(actor)].some((slot) => {
      const row = t.history.see(slot, tx);
      return row !== null && row.seq === seq && row.outcome === 'applied';
    });
    if (!entry) this.#violated('no effect without its intent in history', effectId);
    if (!replaces) return;
    for (const slot of t.effects.group(actor)) {
      const other = t.effects.see(slot, tx)!;
      const before = other.seq < seq || (other.seq === seq && other.index < index);
      if (other.lane !== lane || !before || other.status !== 'pending') continue;
      // One that was given back while this transaction ran is found by its next try.
      if ((this.#changed.get(other.effectId) ?? 0) >= tx.id) continue;
      if (other.leaseUntil === null || other.leaseUntil < tx.now) {
        this.#violated('what is replaced before it begins never begins', `${other.effectId} by ${effectId}`);
      }
    }
  }

  #deadline({ key, value, committed }: Slot<DeadlineRow>, touched: Set<string>): void {
    touched.add((value ?? committed)!.actor);
    if (value === null || value.firedAt === null) {
      // Armed again on purpose after a dead letter: it may fire once more.
      if (value !== null && committed?.firedAt !== null && committed?.setSeq === value.setSeq)
        this.#fired.delete(`${key}\n${value.setSeq}`);
      return;
    }
    if (committed !== null && committed.firedAt !== null) return;
    const setting = `${key}\n${value.setSeq}`;
    if (this.#fired.has(setting)) this.#violated('every deadline fires once', key.replace('\n', ' '));
    this.#fired.add(setting);
    if (value.firedAt < value.dueAt) this.#violated('no deadline fires before its time', key.replace('\n', ' '));
  }

  #history({ value }: Slot<HistoryRow>, tx: Tx): void {
    if (value === null) return;
    this.#life(value, tx);
    const { actor, sender, key, outcome, reason } = value;
    if (sender === 'deadline' && outcome === 'ignored' && reason?.startsWith('Not expected') === true) {
      this.#violated('a state that is left takes its deadlines along', `${actor}: ${key}: ${reason}`);
    }
    if (!sender.includes('/') || !key.startsWith(`${sender}:`)) return;
    const [seq, index] = key
      .slice(sender.length + 1)
      .split(':')
      .map(Number);
    const place = seq! * 1_000 + index!;
    const pair = `${sender}\n${actor}`;
    const last = this.#order.get(pair) ?? 0;
    if (place < last) this.#violated('messages of one sender come in order', `${actor}: ${key} after ${last}`);
    this.#order.set(pair, place);
  }

  /** What comes of an earlier life of a reservation changes nothing. */
  #life({ actor, event, key, outcome }: HistoryRow, tx: Tx): void {
    const { generation } = event as { generation?: number };
    if (outcome !== 'applied' || generation === undefined || !/^(pod|access|jupyter)\./.test(event.type)) return;
    const slot = this.#tables.actors.slot(actor);
    const before = slot?.holder === tx ? slot.committed : slot?.value;
    const life = (before?.snapshot?.context as { generation?: number } | undefined)?.generation ?? 0;
    if (generation < life) this.#violated('what comes of an earlier life changes nothing', `${actor}: ${key} in life ${life}`);
  }

  /** A slot comes free when nothing of its holder runs any more. */
  #gpuSlot({ key, value, committed }: Slot<SlotRow>, tx: Tx): void {
    const before = committed?.reservationId ?? null;
    const after = value?.reservationId ?? null;
    if (before === after) return;
    if (after !== null && this.#tables.actors.get(`reservation/${after}`, tx) === null) {
      this.#violated('no slot without an owner', `${key} is held by ${after}`);
    }
    if (before === null) return;
    for (const pod of [...this.#pods.pods.values(), ...this.#pods.containers.values()]) {
      if (pod.reservationId !== before || pod.generation > committed!.generation! || pod.late) continue;
      if (this.#pods.isThere(pod)) {
        this.#violated('capacity returns when the pod is gone', `${key.replace('\n', ' ')} came free while ${pod.name} is there`);
      }
    }
  }

  #node({ key }: Slot<NodeRow>, tx: Tx, session: Session): void {
    const token = this.#tables.leases.get(LEASE, tx)?.token ?? null;
    if (this.#trackerTokens(session) !== token)
      this.#violated('only the tracker in charge writes', `${session.name} wrote ${key}`);
  }

  #letter({ value }: Slot<DeadLetterRow>): void {
    if (value === null || EARNED.has(value.code) || value.source === 'queue') return;
    this.#violated('no message is lost to a fault of ours', `${value.actor} ${value.key}: ${value.code}: ${value.reason}`);
  }

  /** A live actor has something that will wake it, or may rest. */
  #goesOn(actor: string, tx: Tx): void {
    const t = this.#tables;
    const row = t.actors.get(actor, tx);
    if (row === null || row.status === 'unborn' || row.snapshot === null) return;
    const has = <T>(slots: Iterable<Slot<T>>, wanted: (value: T) => boolean) => {
      for (const slot of slots) {
        const value = slot.table.see(slot, tx);
        if (value !== null && wanted(value)) return true;
      }
      return false;
    };
    if (row.status === 'done') {
      if (has(t.deadlines.group(actor), () => true)) this.#violated('an ended actor has no deadlines', actor);
      return;
    }
    if (this.isResting(row)) return;
    if (has(t.deadlines.group(actor), () => true)) return;
    if (has(t.effects.group(actor), ({ status }) => status === 'pending')) return;
    if (has(t.mailbox.group(actor), () => true)) return;
    this.#violated('no live actor waits for nothing', `${actor} in ${JSON.stringify(row.snapshot.value)}`);
  }

  isResting(row: ActorRow): boolean {
    const name = `${row.kind} ${JSON.stringify(row.snapshot!.value)}`;
    let resting = this.#resting.get(name);
    if (resting === undefined) {
      resting = revive(this.#kinds.get(parseAddress(row.actor).kind)!, row.snapshot!).hasTag('resting');
      this.#resting.set(name, resting);
    }
    return resting;
  }
}
