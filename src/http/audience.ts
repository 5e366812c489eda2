/**
 * Who listens to what, in this process. It is kept as streams come and go and as reservations join and leave lines: to gather it anew whenever
 * something is told took longer than the telling.
 */
import type { Step } from '../../persistence/changes.ts';
import type { StreamOfMany } from './stream-of-many.ts';
import { StreamOfOne } from './stream-of-one.ts';
import type { Lines, StreamSession } from './stream-session.ts';

export type Session = StreamOfOne | StreamOfMany;

export class Audience implements Lines {
  readonly #sessions = new Set<Session>();
  /** Streams of everybody's reservations, of those of a user, and of one. */
  readonly #ofAll = new Set<Session>();
  readonly #ofUser = new Map<string, Set<Session>>();
  readonly #ofOne = new Map<string, Set<Session>>();
  /** Who listens to those that wait for capacity: by type, and by reservation. */
  readonly #lines = new Map<string, Map<string, Set<StreamSession>>>();

  get size(): number {
    return this.#sessions.size;
  }

  /** All of them, as of now. */
  all(): Session[] {
    return [...this.#sessions];
  }

  add(session: Session): void {
    this.#sessions.add(session);
    if (session instanceof StreamOfOne) put(this.#ofOne, session.id, session);
    else if (session.owner === null) this.#ofAll.add(session);
    else put(this.#ofUser, session.owner, session);
  }

  /** Forget a stream whose client is gone. */
  remove(session: Session): void {
    this.#sessions.delete(session);
    this.#ofAll.delete(session);
    if (session instanceof StreamOfOne) take(this.#ofOne, session.id, session);
    else if (session.owner !== null) take(this.#ofUser, session.owner, session);
    for (const [id, { gpuType }] of session.waiting) this.left(session, gpuType, id);
  }

  joined(session: StreamSession, gpuType: string, id: string): void {
    const line = this.#lines.get(gpuType) ?? new Map<string, Set<StreamSession>>();
    this.#lines.set(gpuType, line);
    put(line, id, session);
  }

  left(session: StreamSession, gpuType: string, id: string): void {
    const line = this.#lines.get(gpuType);
    if (line === undefined) return;
    take(line, id, session);
    if (line.size === 0) this.#lines.delete(gpuType);
  }

  /** The lines in which somebody waits to whom somebody listens, by type: who listens, by reservation. */
  get lines(): ReadonlyMap<string, ReadonlyMap<string, ReadonlySet<StreamSession>>> {
    return this.#lines;
  }

  /** Which steps go to whom. @param viewers who may see these reservations beside their owners */
  recipients(steps: readonly Step[], viewers: ReadonlyMap<string, readonly string[]>): Map<Session, Step[]> {
    const found = new Map<Session, Step[]>();
    const give = (session: Session, step: Step) => {
      const own = found.get(session);
      if (own === undefined) found.set(session, [step]);
      else own.push(step);
    };
    for (const step of steps) {
      const users = new Set([step.owner, ...(viewers.get(step.id) ?? [])]);
      for (const session of this.#ofAll) give(session, step);
      for (const session of this.#ofOne.get(step.id) ?? [])
        if (session.by.admin || users.has(session.by.user)) give(session, step);
      for (const user of users) for (const session of this.#ofUser.get(user ?? '') ?? []) give(session, step);
    }
    return found;
  }
}

function put<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const own = map.get(key);
  if (own === undefined) map.set(key, new Set([value]));
  else own.add(value);
}

function take<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const own = map.get(key);
  if (own?.delete(value) && own.size === 0) map.delete(key);
}
