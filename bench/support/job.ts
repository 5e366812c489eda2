/**
 * A small but complete kind of actor: everything that the kernel offers happens in its life over and over, and nothing else costs time. It is
 * started, has work done by an effect under a deadline, is told the result, and waits for its next start. Each change is shown in a read model.
 */
import { assign, setup } from 'xstate';
import { z } from 'zod';
import { clear, deadline, effect, later, MINUTE, type Stamp, shape } from '../../machines/authoring.ts';
import type { ActorKind, Change } from '../../actors/kernel/kind.ts';
import type { Queryable, Transaction } from '../../persistence/database.ts';

const JobEvent = z.discriminatedUnion('type', [
  shape('job.made', { name: z.string() }),
  shape('job.start', { input: z.string() }),
  shape('work.done', { output: z.string() }),
  shape('work.failed', { reason: z.string() }),
  shape('deadline.late', {}),
]);
type Event = z.infer<typeof JobEvent> & Stamp;
interface Context {
  name: string;
  runs: number;
  input: string | null;
  output: string | null;
  problem: string | null;
  startedAt: string | null;
}

const machine = setup({
  types: { context: {} as Context, events: {} as Event, input: {} as { name: string } },
  actions: {
    take: assign(({ event }) => (event.type === 'job.start' ? { input: event.input, startedAt: event.at } : {})),
    keep: assign(({ context, event }) =>
      event.type === 'work.done' ? { runs: context.runs + 1, output: event.output, problem: null } : {},
    ),
    blame: assign(({ event }) => (event.type === 'work.failed' ? { problem: event.reason } : { problem: 'It took too long' })),
    work: () => {},
    setLate: () => {},
    clearLate: () => {},
  },
}).createMachine({
  id: 'job',
  version: '1',
  description: 'A job that is done again and again.',
  context: ({ input }: { input: { name: string } | undefined }) => ({
    name: input?.name ?? '',
    runs: 0,
    input: null,
    output: null,
    problem: null,
    startedAt: null,
  }),
  options: { maxIterations: 100 },
  initial: 'waiting',
  states: {
    waiting: { description: 'Until it is started.', on: { 'job.start': { target: 'working', actions: 'take' } } },
    working: {
      description: 'Its effect runs.',
      entry: ['work', 'setLate'],
      exit: 'clearLate',
      on: {
        'work.done': { target: 'waiting', actions: 'keep' },
        'work.failed': { target: 'waiting', actions: 'blame' },
        'deadline.late': { target: 'waiting', actions: 'blame' },
      },
    },
  },
});

export const JOB_TABLE = `
  create table if not exists bench_jobs (
    job_id text primary key, status text not null, runs int not null, output text, problem text, started_at timestamptz,
    updated_at timestamptz not null) with (fillfactor = 70)`;

const PROJECT = `
  insert into bench_jobs (job_id, status, runs, output, problem, started_at, updated_at)
  select j.job_id, j.status, j.runs, j.output, j.problem, j.started_at, $7
    from unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::timestamptz[])
      as j(job_id, status, runs, output, problem, started_at)
  on conflict (job_id) do update set
    status = excluded.status, runs = excluded.runs, output = excluded.output, problem = excluded.problem,
    started_at = excluded.started_at, updated_at = excluded.updated_at`;

async function project(tx: Transaction, changes: readonly Change[]): Promise<void> {
  const contexts = changes.map(({ after }) => after.context as Context);
  const values = [
    changes.map(({ id }) => id),
    changes.map(({ after }) => String(after.value)),
    contexts.map(({ runs }) => runs),
    contexts.map(({ output }) => output),
    contexts.map(({ problem }) => problem),
    contexts.map(({ startedAt }) => startedAt),
    changes[0]!.at,
  ];
  tx.send(PROJECT, values);
}

/** Make the read model's table. */
export async function prepareJobs(db: Queryable): Promise<void> {
  await db.query(JOB_TABLE);
}

/** The kind; its handler does nothing but answer. */
export function jobKind(): ActorKind {
  return {
    kind: 'job',
    version: 1,
    machine,
    events: JobEvent,
    birth: 'job.made',
    input: (event) => ({ name: event['name'] }),
    intents: (action, context: Context, event) => {
      switch (action.type) {
        case 'work':
          return [effect({ type: 'work', run: context.runs + 1, input: context.input ?? '' })];
        case 'setLate':
          return [deadline('late', later(event, 10 * MINUTE))];
        case 'clearLate':
          return clear('late');
        default:
          throw new Error(`job: ${action.type}`);
      }
    },
    effects: z.object({ type: z.literal('work'), run: z.number(), input: z.string() }),
    migrations: {},
    context: null,
    project,
    handlers: { work: async () => DONE },
    effectFailed: (_effect, reason) => ({ type: 'work.failed', reason }),
  };
}

const DONE = { type: 'work.done', output: 'finished without a word' } as { type: string };

/** Letters for `job.start`, about as long as what people ask for. */
export const INPUT = 'a dev server with one GPU for eight hours, please, and my usual disk';
