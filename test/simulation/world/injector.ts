/** Makes the faults of a plan happen. */
import type { Fault } from './plan.ts';
import type { SimPod } from './pods.ts';
import type { Process } from './process.ts';
import type { Simulation } from './simulation.ts';

/** Half seconds that a fault waits for its moment, at most. */
const LONGEST_WAIT = 600;

/** No effect is given up before, in milliseconds. */
const GIVEN_UP_AFTER = 25 * 60_000;
/** Effects that leave nothing behind when they fail for good. */
const MAY_BE_GIVEN_UP = new Set([
  ...['pod.create', 'notice.post', 'access.update', 'jupyter.start', 'jupyter.stop'],
  ...['image.build', 'volume.ensure', 'snapshot.take'],
]);

export class Injector {
  readonly #simulation: Simulation;

  constructor(simulation: Simulation) {
    this.#simulation = simulation;
  }

  inject(fault: Fault): void {
    const simulation = this.#simulation;
    const { pods, feeds } = simulation;
    switch (fault.kind) {
      case 'crash':
      case 'freeze':
        this.#inTheAct(fault);
        break;
      case 'pod dies':
        this.#toPod(fault, (pod) => pods.die(pod, 'Evicted: the node was low on memory'));
        break;
      case 'pod is deleted':
        this.#toPod(fault, (pod) => pods.deleteFromOutside(pod));
        break;
      case 'out of memory':
        this.#toPod(fault, (pod) => pods.outOfMemory(pod));
        break;
      case 'watch breaks':
        simulation.note(`watch breaks for ${fault.lasts} ms`);
        feeds.breakFor(fault.lasts);
        break;
      case 'maintenance':
        this.#maintain(fault);
        break;
      case 'work is deadly':
        simulation.deadly = { effectId: null, fault, until: simulation.scheduler.now + fault.lasts };
        break;
      default:
        this.#toNode(fault);
    }
  }

  /** Half of these faults wait for a process that is in the middle of something. */
  #inTheAct(fault: Fault, tries = 0): void {
    const { processes, scheduler, world } = this.#simulation;
    const alive = processes.filter(({ session }) => session.alive && session.frozenUntil <= scheduler.now);
    const busy = alive.filter(({ kernel }) => kernel.stats().effectsRunning > 0);
    if (fault.pick % 2 === 0 && busy.length === 0 && tries < LONGEST_WAIT && !this.#simulation.quiet) {
      scheduler.at(scheduler.now + 500, world, () => this.#inTheAct(fault, tries + 1));
      return;
    }
    const candidates = fault.pick % 2 === 0 && busy.length > 0 ? busy : alive;
    const process = candidates[(fault.pick >> 1) % candidates.length];
    if (process === undefined) return;
    if (fault.kind === 'crash') this.#crash(process, fault.lasts, alive.length === 1);
    else this.#freeze(process, fault.lasts);
  }

  /** Whether this effect kills the process that has begun to run it: then that is dead now. */
  kills(process: Process, effectId: string, type: string): boolean {
    const { deadly, scheduler, quiet, processes } = this.#simulation;
    if (deadly === null || quiet || scheduler.now > deadly.until) return false;
    const { fault } = deadly;
    if (deadly.effectId === null && (fault.lasts <= GIVEN_UP_AFTER || MAY_BE_GIVEN_UP.has(type))) deadly.effectId = effectId;
    if (deadly.effectId !== effectId) return false;
    this.#simulation.note(`work-is-deadly ${effectId}`);
    this.#crash(process, 1_000 + fault.pick * 10, processes.filter(({ session }) => session.alive).length === 1);
    return true;
  }

  #crash(process: Process, lasts: number, isLast: boolean): void {
    const { scheduler, world } = this.#simulation;
    this.#simulation.note(`crash of ${process.session.name}`);
    process.session.alive = false;
    process.db.crash();
    this.#simulation.wakeAll();
    const restart = () => {
      this.#simulation.tell('a process starts');
      this.#simulation.startProcess();
    };
    // A supervisor starts another, sooner or later; the last one at once, so that somebody is there.
    if (isLast) restart();
    else scheduler.at(scheduler.now + lasts, world, restart);
  }

  #freeze(process: Process, lasts: number): void {
    const { scheduler, world } = this.#simulation;
    this.#simulation.note(`freeze of ${process.session.name} for ${lasts} ms`);
    process.session.frozenUntil = scheduler.now + lasts;
    process.db.freeze();
    scheduler.at(process.session.frozenUntil, world, () => this.#simulation.tell(`${process.session.name} goes on`));
  }

  #toPod(fault: Fault, work: (pod: SimPod) => void): void {
    const all = [...this.#simulation.pods.pods.values()];
    const pod = all[fault.pick % Math.max(1, all.length)];
    if (pod === undefined) return;
    this.#simulation.note(`${fault.kind.replaceAll(' ', '-')} ${pod.name}`);
    work(pod);
  }

  #toNode(fault: Fault): void {
    const { pods, scheduler, world } = this.#simulation;
    const all = [...pods.nodes.values()];
    const node = all[fault.pick % Math.max(1, all.length)];
    if (node === undefined) return;
    this.#simulation.note(`${fault.kind.replaceAll(' ', '-')} ${node.name}`);
    const back = scheduler.now + fault.lasts;
    if (fault.kind === 'node is lost') {
      const { name, gpuType, gpus } = node;
      pods.removeNode(name);
      scheduler.at(back, world, () => {
        if (!pods.nodes.has(name)) pods.addNode({ name, uid: `${node.uid}'`, gpuType, gpus, ready: true, cordoned: false });
      });
    } else if (fault.kind === 'node is silent') {
      pods.changeNode(node.name, { ready: false });
      scheduler.at(back, world, () => pods.changeNode(node.name, { ready: true }));
    } else {
      pods.changeNode(node.name, { cordoned: true });
      scheduler.at(back, world, () => pods.changeNode(node.name, { cordoned: false }));
    }
  }

  /** A pool is paused, and resumed later. */
  #maintain(fault: Fault): void {
    const simulation = this.#simulation;
    const { gpuType } = simulation.plan.fleet[fault.pick % simulation.plan.fleet.length]!;
    simulation.note(`maintenance of ${gpuType}`);
    const key = simulation.random.uuid();
    simulation.send(`gpu-pool/${gpuType}`, `pause:${key}`, { type: 'pool.paused', reason: 'new drivers', by: 'root' });
    simulation.scheduler.at(simulation.scheduler.now + fault.lasts, simulation.world, () =>
      simulation.send(`gpu-pool/${gpuType}`, `resume:${key}`, { type: 'pool.resumed', by: 'root' }),
    );
  }
}
