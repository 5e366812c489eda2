/**
 * What asking over HTTP costs while many listen: reservations submitted in an open loop, beside streams that tell their owners of them. The
 * clock of a submission ends with its answer, when the reservation exists; that of an event, when its owner's stream has told of it.
 */
import http from 'node:http';
import { keyFor } from '../test/support/api-keys.ts';
import { familySeconds, processorSeconds } from './support/processor.ts';
import type { BenchServer } from './support/server.ts';
import { create, memoryOf, type ServiceProcess, Stage } from './support/stage.ts';
import { type Percentiles, percentilesOf, round } from './support/statistics.ts';

export interface FrontDoorOptions {
  /** Streams that are open all the time, shared by so many users. */
  streams: number;
  users: number;
  /** Submissions a second, and for how many seconds, of each part. */
  loads: readonly { perSecond: number; seconds: number }[];
  log?: (line: string) => void;
}

export interface FrontDoorFigures {
  perSecond: number;
  submissions: number;
  /** Submission by HTTP until its answer. */
  submitMs: Percentiles;
  /** Submission until each stream of its owner has told of it. */
  toldMs: Percentiles;
  /** Answers that were no 202. */
  refused: number;
  sentLate: number;
  /** Processor time a submission, in milliseconds: of the service and of Postgres, the way to a running server included. */
  processorMs: { service: number; postgres: number };
  memoryMb: number;
}

/** A cluster as people have one: at such rates most of what is asked for waits in the line. */
const NODES = 8;
/** Submissions before the first that is measured, and how many at a time: a service that has just started compiles what it runs. */
const WARM_UP = 3_000;
const AT_ONCE = 8;
const PATIENCE_MS = 60_000;

/** Measure each load in turn, on one service. */
export async function measureFrontDoor(server: BenchServer, options: FrontDoorOptions): Promise<FrontDoorFigures[]> {
  const stage = await Stage.start(server, { fleet: { h100: NODES } });
  const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
  const listeners: Listener[] = [];
  try {
    const service = await stage.service({ RATE_LIMIT_PER_KEY: '0' });
    await stage.healthy(service);
    const keys = await Promise.all(Array.from({ length: options.users }, (_, index) => keyFor(stage.db, `user-${index}`)));
    for (let index = 0; index < options.streams; index++) {
      listeners.push(await Listener.open(service, keys[index % keys.length]!));
    }
    const submit = (index: number) => post(service, agent, keys[index % keys.length]!);
    for (let index = 0; index < WARM_UP; index += AT_ONCE) {
      await Promise.all(Array.from({ length: AT_ONCE }, (_, lane) => submit(index + lane)));
    }
    const figures: FrontDoorFigures[] = [];
    for (const load of options.loads) {
      figures.push(await run(stage, service, server.pid, listeners, submit, load));
      options.log?.(JSON.stringify(figures.at(-1)));
    }
    return figures;
  } finally {
    for (const listener of listeners) listener.close();
    agent.destroy();
    await stage.stop();
  }
}

async function run(
  stage: Stage,
  service: ServiceProcess,
  postgres: number,
  listeners: readonly Listener[],
  submit: (index: number) => Promise<{ status: number; id: string }>,
  { perSecond, seconds }: { perSecond: number; seconds: number },
): Promise<FrontDoorFigures> {
  const count = perSecond * seconds;
  const pid = service.program.child.pid!;
  const before = [processorSeconds(pid), familySeconds(postgres)] as const;
  const sent = new Map<string, number>();
  const took: number[] = [];
  let refused = 0;
  let sentLate = 0;
  const pending: Promise<void>[] = [];
  const since = performance.now();
  for (let index = 0; index < count; index++) {
    const due = (index * 1_000) / perSecond;
    const early = since + due - performance.now();
    if (early > 1) await new Promise((resolve) => setTimeout(resolve, early));
    sentLate = Math.max(sentLate, performance.now() - since - due);
    const at = performance.now();
    pending.push(
      submit(index).then(({ status, id }) => {
        took.push(performance.now() - at);
        if (status === 202) sent.set(id, at);
        else refused++;
      }),
    );
  }
  await Promise.all(pending);
  const told = () => listeners.flatMap((listener) => listener.delays(sent));
  const owed = (sent.size * listeners.length) / Math.min(listeners.length, new Set(listeners.map(({ key }) => key)).size);
  await stage.until('all streams have told', () => told().length >= owed, PATIENCE_MS);
  const after = [processorSeconds(pid), familySeconds(postgres)] as const;
  return {
    perSecond,
    submissions: count,
    submitMs: percentilesOf(took),
    toldMs: percentilesOf(told()),
    refused,
    sentLate: round(sentLate, 1),
    processorMs: {
      service: round(((after[0] - before[0]) * 1_000) / count, 2),
      postgres: round(((after[1] - before[1]) * 1_000) / count, 2),
    },
    memoryMb: round(memoryOf(pid).now),
  };
}

const ID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const ID_LENGTH = 36;

/** One stream of all that a user has, and when it first told of each reservation. */
class Listener {
  readonly key: string;
  readonly #told = new Map<string, number>();
  readonly #request: http.ClientRequest;
  /** The end of what was heard, in which an id may have begun. */
  #rest = '';

  private constructor(key: string, request: http.ClientRequest) {
    this.key = key;
    this.#request = request;
  }

  static open({ url }: ServiceProcess, key: string): Promise<Listener> {
    return new Promise((resolve, reject) => {
      const request = http.get(`${url}/v1/stream`, { agent: false, headers: { authorization: `Bearer ${key}` } }, (response) => {
        if (response.statusCode !== 200) return reject(new Error(`a stream was answered with ${response.statusCode}`));
        const listener = new Listener(key, request);
        response.setEncoding('latin1').on('data', (text: string) => listener.#hear(text));
        response.on('error', () => {}); // it ends when it is closed
        resolve(listener);
      });
      request.once('error', reject);
    });
  }

  /** Ids are looked for in the text as it comes, and nothing is parsed: who measures must not take the processor from what is measured. */
  #hear(text: string): void {
    const at = performance.now();
    const heard = this.#rest + text;
    for (const [id] of heard.matchAll(ID)) if (!this.#told.has(id)) this.#told.set(id, at);
    this.#rest = heard.slice(-ID_LENGTH);
  }

  /** How long after each of these submissions it told of it. */
  delays(sent: ReadonlyMap<string, number>): number[] {
    return [...sent].flatMap(([id, at]) => (this.#told.has(id) ? [Math.max(0, this.#told.get(id)! - at)] : []));
  }

  close(): void {
    this.#request.destroy();
  }
}

/** Submit a reservation, and wait for the whole answer. */
function post({ url }: ServiceProcess, agent: http.Agent, key: string): Promise<{ status: number; id: string }> {
  const { reservation_id: _id, user_id: _user, action: _action, ...wish } = create();
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const request = http.request(`${url}/v1/reservations`, { method: 'POST', agent, headers }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.once('end', () => {
        const body = JSON.parse(Buffer.concat(parts).toString()) as { id?: string };
        resolve({ status: response.statusCode ?? 0, id: body.id ?? '' });
      });
    });
    request.once('error', reject);
    request.end(JSON.stringify(wish));
  });
}
