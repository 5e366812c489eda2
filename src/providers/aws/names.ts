/**
 * Names of servers in Route 53. An account may ask five times a second, whoever asks: wishes that come together become one look and one change
 * of the zone, at most one such pair is under way, and a pause follows it.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { TerminalError } from '../../../actors/errors.ts';
import type { NameRef, Names, PublishedName } from '../../../actors/reservation/name-ports.ts';
import { AwsError } from './errors.ts';
import type { Change, RecordSet, Route53 } from './route53.ts';
import { decide, ownerName, type Standing, type Wish } from './zone-records.ts';

export interface Route53NamesOptions {
  route53: Route53;
  /** Id of the hosted zone. */
  zone: string;
  /** Name of this installation, that stands in every record. */
  cluster: string;
  /** Where all names lead (the DNS name of a load balancer), or null for each to the node of its server. */
  target?: string | null;
  /** How long the first wish waits for others, and how long a pause after each change is, in milliseconds. */
  gatherMs?: number;
  gapMs?: number;
}

interface Waiting {
  wish: Wish;
  fqdn: string;
  done: () => void;
  failed: (error: unknown) => void;
}

/** Wishes of one change: well within the thousand records and the 32,000 characters that Route 53 takes. */
const AT_ONCE = 60;
/** More names than this are looked for in a list of the whole zone: its pages hold three hundred records. */
const FEW = 4;
/** A name and what stands below it. */
const NEIGHBOURS = 10;
/** Looks after a change was refused because somebody was faster. */
const TRIES = 4;

export class Route53Names implements Names {
  readonly zone: string;
  readonly #options: Required<Omit<Route53NamesOptions, 'zone'>>;
  #waiting: Waiting[] = [];
  #working = false;

  constructor({ zone, target = null, gatherMs = 50, gapMs = 500, ...options }: Route53NamesOptions) {
    this.zone = zone;
    this.#options = { ...options, target, gatherMs, gapMs };
  }

  publish(name: PublishedName): Promise<void> {
    return this.#ask({ do: 'publish', name, target: this.#options.target }, name.fqdn);
  }

  withdraw({ reservationId, fqdn }: NameRef): Promise<void> {
    return this.#ask({ do: 'withdraw', reservationId, fqdn }, fqdn);
  }

  /** What stands there now, whosever it is. @throws AwsError */
  async standing(fqdn: string): Promise<Standing> {
    return (await this.#look([fqdn])).get(fqdn)!;
  }

  #ask(wish: Wish, fqdn: string): Promise<void> {
    return new Promise((done, failed) => {
      this.#waiting.push({ wish, fqdn, done, failed });
      if (!this.#working) void this.#work();
    });
  }

  /** Never throws: whoever waits gets what went wrong. */
  async #work(): Promise<void> {
    this.#working = true;
    await pause(this.#options.gatherMs);
    while (this.#waiting.length > 0) {
      const batch = this.#take();
      try {
        await this.#grant(batch);
      } catch (error) {
        for (const { failed } of batch) failed(error);
      }
      await pause(this.#options.gapMs);
    }
    this.#working = false;
  }

  /** Those that have waited longest, no two of one name. */
  #take(): Waiting[] {
    const names = new Set<string>();
    const batch: Waiting[] = [];
    const rest: Waiting[] = [];
    for (const each of this.#waiting) {
      if (batch.length < AT_ONCE && !names.has(each.fqdn)) batch.push(each);
      else rest.push(each);
      names.add(each.fqdn);
    }
    this.#waiting = rest;
    return batch;
  }

  /** @throws AwsError if it is not known what became of them */
  async #grant(batch: readonly Waiting[], tries = 1): Promise<void> {
    const { route53, cluster } = this.#options;
    const standing = await this.#look(batch.map(({ fqdn }) => fqdn));
    const open: Waiting[] = [];
    const changes: Change[] = [];
    for (const each of batch) {
      const decision = decide(each.wish, standing.get(each.fqdn)!, cluster);
      if ('refused' in decision) each.failed(new TerminalError(decision.refused));
      else if (decision.changes.length === 0) each.done();
      else {
        open.push(each);
        changes.push(...decision.changes);
      }
    }
    if (open.length === 0) return;
    try {
      await route53.change(this.zone, changes);
    } catch (error) {
      if (!(error instanceof AwsError) || error.failure !== 'refused' || (tries >= TRIES && open.length === 1)) throw error;
      await pause(this.#options.gapMs);
      return this.#grantApart(open, tries + 1);
    }
    for (const { done } of open) done();
  }

  /** One of them was refused, so none was made: somebody was faster, or one cannot be. Each half by itself, so that it spoils none but itself. */
  async #grantApart(open: readonly Waiting[], tries: number): Promise<void> {
    const half = Math.ceil(open.length / 2);
    for (const some of [open.slice(0, half), open.slice(half)]) {
      if (some.length === 0) continue;
      await this.#grant(some, tries).catch((error: unknown) => {
        for (const { failed } of some) failed(error);
      });
    }
  }

  /** What stands under each of these names. */
  async #look(names: readonly string[]): Promise<Map<string, Standing>> {
    const standing = new Map(names.map((name): [string, Standing] => [name, { own: [], word: null }]));
    const byOwner = new Map(names.map((name) => [ownerName(name), name]));
    const note = (record: RecordSet) => {
      standing.get(record.name)?.own.push(record);
      const named = byOwner.get(record.name);
      if (named !== undefined) standing.get(named)!.word = record;
    };
    if (names.length > FEW) {
      for await (const page of this.#options.route53.all(this.zone)) for (const record of page) note(record);
      return standing;
    }
    for (const name of names) for (const record of await this.#around(name)) note(record);
    return standing;
  }

  /** Records of one name, and the one that says whose they are: they are neighbours, if nobody has put much between them. */
  async #around(name: string): Promise<RecordSet[]> {
    const { route53 } = this.#options;
    const { records, more } = await route53.from(this.zone, name, NEIGHBOURS);
    const last = records.at(-1)?.name ?? '';
    const own = records.filter((record) => record.name === name || record.name === ownerName(name));
    if (!more || !(last === name || last.endsWith(`.${name}`)) || last === ownerName(name)) return own;
    const word = await route53.from(this.zone, ownerName(name), 1);
    return [...own.filter((record) => record.name === name), ...word.records.filter((record) => record.name === ownerName(name))];
  }
}
