/** The last look at the disk of a server that is about to be removed: afterwards nobody can see what is on it without a server. */
import { askForContents } from '../disk/contents.ts';
import { ServerGoneError } from '../errors.ts';
import type { EffectContext } from '../kernel/kind.ts';
import { type ReservationPorts, readReservation } from './provision.ts';
import { isSilent } from './teardown.ts';

/** Removals that are remembered at the same time; who forgets one looks once more, at a pod that is going, and nothing comes of it. */
const MOST = 10_000;

export class LastLook {
  readonly #ports: ReservationPorts;
  /** Removals for which it was taken. A removal is tried until the pod is gone, and each try would wait for it. */
  readonly #taken = new Set<string>();

  constructor(ports: ReservationPorts) {
    this.#ports = ports;
  }

  /**
   * Ask the server of this life what is on its disk, once, if it has one. Takes as long as the port takes, a few seconds; never fails. A node that
   * does not answer is not asked.
   */
  async take(generation: number, { actor, effectId }: EffectContext): Promise<void> {
    const { servers, db } = this.#ports;
    if (servers.listDisk === undefined || this.#taken.has(effectId)) return;
    if (this.#taken.size >= MOST) this.#taken.clear();
    this.#taken.add(effectId);
    const found = await readReservation(db, actor).catch(() => null);
    if (found === null || found.context.generation !== generation || found.context.disk.claim === null) return;
    const { id: reservationId, request, grant } = found.context;
    if (request.disk === null) return;
    await askForContents(db, { diskId: request.disk.id, reservationId }, async () => {
      if (grant === null || (await isSilent(this.#ports, grant.node))) throw new ServerGoneError();
      return (await servers.listDisk?.({ reservationId, generation })) ?? null;
    });
  }

  /** The pod is gone. */
  forget(effectId: string): void {
    this.#taken.delete(effectId);
  }
}
