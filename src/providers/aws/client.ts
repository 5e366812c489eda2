/**
 * The way to AWS: one client a service, made when it is first used (the SDK takes memory, and whoever runs without AWS shall not pay for it);
 * a time limit on every call, and retries with jitter inside a budget of time.
 */
import { randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { type AwsError, describeAws } from './errors.ts';

export interface AwsSettings {
  region: string;
  /** Of every service, in place of AWS's own: for tests and for emulators. */
  endpoint?: string | undefined;
  /** Name of this installation: what we make bears it, and we touch nothing that does not. */
  cluster: string;
  /** Limit of one attempt, in milliseconds. Default 15,000. */
  attemptMs?: number | undefined;
  /** Limit of a call with all its attempts, in milliseconds. Default 25,000. */
  budgetMs?: number | undefined;
  /** Attempts of one call. Default 6. */
  maxAttempts?: number | undefined;
}

/** What every client of the SDK is made with. */
export interface SdkConfig {
  region: string;
  endpoint?: string;
  maxAttempts: number;
  requestHandler: { connectionTimeout: number; requestTimeout: number; httpsAgent: { maxSockets: number } };
}

export interface CallOptions {
  /**
   * Whether it may be sent again when nobody knows what became of it: a read, or a call whose repetition AWS recognizes. All calls are sent
   * again when it is certain that nothing was done.
   */
  repeatable: boolean;
  signal?: AbortSignal | undefined;
}

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;

/** One service of AWS. */
export class AwsService<Sdk, Client> {
  readonly settings: AwsSettings;
  readonly #load: () => Promise<Sdk>;
  readonly #make: (sdk: Sdk, config: SdkConfig) => Client;
  #open: Promise<{ sdk: Sdk; client: Client }> | null = null;
  /** Calls that were sent, attempts included. */
  sent = 0;

  /** @param load a dynamic import of the SDK's module */
  constructor(settings: AwsSettings, load: () => Promise<Sdk>, make: (sdk: Sdk, config: SdkConfig) => Client) {
    this.settings = settings;
    this.#load = load;
    this.#make = make;
  }

  /**
   * Make one call.
   * @param work sends it with the client and the signal that it is given
   * @throws AwsError once it is hopeless, or its budget is spent
   */
  async call<T>(
    doing: string,
    work: (service: { sdk: Sdk; client: Client }, signal: AbortSignal) => Promise<T>,
    { repeatable, signal }: CallOptions,
  ): Promise<T> {
    const { attemptMs = 15_000, budgetMs = 25_000, maxAttempts = 6 } = this.settings;
    const service = await this.#service();
    const end = performance.now() + budgetMs;
    for (let attempt = 1; ; attempt += 1) {
      try {
        this.sent += 1;
        const limit = AbortSignal.timeout(Math.max(1, Math.ceil(Math.min(attemptMs, end - performance.now()))));
        return await work(service, signal === undefined ? limit : AbortSignal.any([signal, limit]));
      } catch (error) {
        const known = describeAws(doing, error);
        const wait = fullJitter(attempt);
        const again = isWorthwhile(known, repeatable) && attempt < maxAttempts && performance.now() + wait < end;
        if (!again || signal?.aborted === true) throw known;
        await pause(wait, undefined, signal === undefined ? {} : { signal });
      }
    }
  }

  #service(): Promise<{ sdk: Sdk; client: Client }> {
    this.#open ??= this.#load().then((sdk) => ({ sdk, client: this.#make(sdk, this.#config()) }));
    return this.#open;
  }

  #config(): SdkConfig {
    const { region, endpoint, attemptMs = 15_000 } = this.settings;
    return {
      region,
      ...(endpoint === undefined ? {} : { endpoint }),
      // Retries are ours: the SDK's know neither our budget nor which calls may be repeated.
      maxAttempts: 1,
      requestHandler: { connectionTimeout: 5_000, requestTimeout: attemptMs, httpsAgent: { maxSockets: 25 } },
    };
  }
}

function isWorthwhile({ failure }: AwsError, repeatable: boolean): boolean {
  return failure === 'throttled' || (failure === 'unknown' && repeatable);
}

/** Anything between nothing and a limit that doubles: those who were refused together do not come back together. */
function fullJitter(attempt: number): number {
  return randomInt(1, Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (attempt - 1)) + 1);
}
