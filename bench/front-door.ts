/**
 * What asking over HTTP costs while many listen: reservations submitted in an open loop, beside streams that tell their owners of them. The
 * clock of a submission ends with its answer, when the reservation exists; that of an event, when its owner's stream has told of it.
 */
import http from 'node:http';
import { keyFor } from '../test/support/api-keys.ts';
import { familySeconds, processorSeconds } from './support/processor.ts';
import type { BenchServer } from './support/server.ts';
import { create, memoryOf, type ServiceProcess, Stage } from './support/stage.ts';
import { Listeners } from './support/listeners.ts';
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
  let listeners: Listeners | undefined;
  try {
    const service = await stage.service({ RATE_LIMIT_PER_KEY: '0' });
    await stage.healthy(service);
    const keys = await Promise.all(Array.from({ length: options.users }, (_, index) => keyFor(stage.db, `user-${index}`)));
    const listening = Array.from({ length: options.streams }, (_, index) => keys[index % keys.length]!);
    listeners = await Listeners.open(service.url, listening, PATIENCE_MS);
    const submit = (index: number) => post(service, agent, keys[index % keys.length]!);
    for (let index = 0; index < WARM_UP; index += AT_ONCE) {
      await Promise.all(Array.from({ length: AT_ONCE }, (_, lane) => submit(index + lane)));
    }
    const figures: FrontDoorFigures[] = [];
    for (const load of options.loads) {
      figures.push(await run(service, server.pid, { listeners, each: options.streams / options.users }, submit, load));
      options.log?.(JSON.stringify(figures.at(-1)));
    }
    return figures;
  } finally {
    listeners?.close();
    agent.destroy();
    await stage.stop();
  }
}

async function run(
  service: ServiceProcess,
  postgres: number,
  /** Who listens, and how many streams each user has. */
  { listeners, each }: { listeners: Listeners; each: number },
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
        if (status === 202) sent.set(id, performance.timeOrigin + at);
        else refused++;
      }),
    );
  }
  await Promise.all(pending);
  const times = await listeners.timesOf([...sent.keys()], sent.size * each, PATIENCE_MS);
  const after = [processorSeconds(pid), familySeconds(postgres)] as const;
  return {
    perSecond,
    submissions: count,
    submitMs: percentilesOf(took),
    toldMs: percentilesOf(times.map(([id, at]) => Math.max(0, at - sent.get(id)!))),
    refused,
    sentLate: round(sentLate, 1),
    processorMs: {
      service: round(((after[0] - before[0]) * 1_000) / count, 2),
      postgres: round(((after[1] - before[1]) * 1_000) / count, 2),
    },
    memoryMb: round(memoryOf(pid).now),
  };
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
