// Any request to any operation gets an answer that the API's description promises: never an error of ours, never silence.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DEFAULT_IDENTITY } from '../../src/identity/settings.ts';
import { type HttpWorld, startHttp } from '../integration/http/support.ts';
import { Answers } from './answers.ts';
import { Known } from './known.ts';
import { type Description, endpointsOf, type FuzzRequest, requests } from './requests.ts';
import type { Schema } from './values.ts';

/** Requests in all; `FUZZ_REQUESTS` for more. Sent so many at a time. */
const REQUESTS = Number(process.env['FUZZ_REQUESTS'] ?? 20_000);
const AT_ONCE = 8;
const PATIENCE_MS = 20_000;
/** Streams have no end that could be waited for. */
const isStream = (path: string) => /^\/v1\/.*(stream|live)$/.test(path);

let http: HttpWorld;
beforeAll(async () => {
  const identity = { ...DEFAULT_IDENTITY, local: true, admins: ['operator'], proofKeys: { keysOf: async () => [] } };
  http = await startHttp({ fleet: { h100: 4, t4: 4, 'cpu-x86': 2 }, timeScale: 1_000 }, { identity });
});
afterAll(async () => {
  await http?.stop();
});

const CALLERS = {
  nobody: async () => ({}),
  liar: async () => ({ authorization: `Bearer gpudev_${'A'.repeat(43)}` }),
  ann: () => http.as('ann'),
  bob: () => http.as('bob'),
  reader: () => http.as('ann', { scopes: ['read'] }),
  disks: () => http.as('bob', { scopes: ['disks'] }),
  operator: () => http.as('operator', { admin: true }),
};
type Caller = keyof typeof CALLERS;

/** Undo what would make all further requests end at the door: users disabled, keys revoked, types under maintenance. */
async function openDoors(): Promise<void> {
  const { db } = http.world;
  await db.query('update api_users set is_active = true where not is_active');
  await db.query(`update api_keys set is_active = true, revoked_at = null where not is_active`);
  await db.query('delete from quotas where user_id <> $1', ['*']);
  await db.query('update quotas set max_reservations = 60, max_gpus = null');
  http.app.keyRing.forget();
}

/** Who asks how often: mostly somebody who may. */
const ASKING: readonly Caller[] = [
  'nobody',
  'liar',
  'reader',
  'disks',
  'bob',
  'bob',
  ...Array<Caller>(5).fill('ann'),
  ...Array<Caller>(5).fill('operator'),
];

const create = { gpu_type: 't4', gpu_count: 1, duration_hours: 0.5 };
const EXAMPLES = {
  'POST /v1/reservations': [
    { ...create, disk_name: null },
    create,
    { ...create, gpu_type: 'h100', jupyter_enabled: true, disk_name: 'data' },
  ],
  'POST /v1/reservations/{id}/events': [
    ...['cancel', 'enable_jupyter', 'disable_jupyter'].map((type) => ({ type })),
    ...[
      { type: 'extend', extension_hours: 0.5 },
      { type: 'add_user', github_username: 'octocat' },
    ],
  ],
  'POST /v1/reservations/{id}/collaborators': [
    { user: 'bob', role: 'view' },
    { github_username: 'octocat', role: 'attach' },
  ],
  'POST /v1/jobs/submit': [{ instance_type: 'g4dn.xlarge', duration_hours: 1, env_vars: { GPU_TYPE: 't4', GPU_COUNT: '1' } }],
  'POST /v1/jobs/{id}/extend': [{ extension_hours: 1 }],
  'POST /v1/jobs/{id}/users': [{ github_username: 'octocat' }],
  'POST /v1/disks': [{ disk_name: 'data', size_gb: 20 }, { disk_name: 'other' }],
  'POST /v1/disks/{name}/rename': [{ new_name: 'other' }, { new_name: 'data' }],
  'POST /v1/disks/{name}/clone': [{ target_disk: 'copy', new_name: 'copy' }],
  'PUT /v1/admin/quotas/{user}': [{ max_reservations: 50, reason: 'to see what comes' }],
  'PUT /v1/admin/maintenance/{gpu_type}': [{ reason: 'new cables', allowed_users: ['ann', 'bob'] }],
  'PUT /v1/admin/nodes/{node}/drain': [{ reason: 'new cables' }],
  'POST /v1/auth/local-login': [{ username: 'ann' }, {}],
};

it(`${REQUESTS} requests of all kinds: no error of ours, no answer that was not promised, none that does not come`, {
  timeout: 900_000,
}, async () => {
  const description = (await http.get('/openapi.json')).body as Description;
  const answers = new Answers(description);
  const known = new Known();
  const endpoints = endpointsOf(description, isStream);
  const resolve = (reference: string) => description.components!.schemas![reference.split('/').at(-1)!] as Schema;
  const counts = new Map<number, number>();
  const reached = new Map(endpoints.map(({ name }) => [name, 0]));
  const byName = new Map(endpoints.map((endpoint) => [endpoint.name, endpoint]));

  const send = async ({ endpoint: name, caller, options }: FuzzRequest): Promise<string | null> => {
    const endpoint = byName.get(name)!;
    const headers = { ...(await CALLERS[caller as Caller]()), ...(options.headers as Record<string, string>) };
    const answer = await Promise.race([
      http.app.inject({ ...options, headers }),
      new Promise<null>((done) => setTimeout(done, PATIENCE_MS, null).unref()),
    ]);
    if (answer === null) return `${name} does not answer: ${JSON.stringify(options)}`;
    counts.set(answer.statusCode, (counts.get(answer.statusCode) ?? 0) + 1);
    if (answer.statusCode < 300) reached.set(name, reached.get(name)! + 1);
    if (answer.statusCode < 500 && answer.payload.length < 50_000) known.learn(endpoint, answer.payload);
    const problem = answers.problemOf(endpoint, answer);
    return problem === null ? null : `${name} as ${caller} ${problem}\n${JSON.stringify(options).slice(0, 2_000)}`;
  };

  const some = fc.array(requests(endpoints, { resolve, known, callers: ASKING, examples: EXAMPLES }), {
    minLength: AT_ONCE,
    maxLength: AT_ONCE,
    size: 'max',
  });
  let batches = 0;
  // All that is wrong is told at once, each kind of it once: there is nothing to shrink in a request that is made of independent parts.
  const found = new Map<string, string>();
  const property = fc.asyncProperty(some, async (batch) => {
    if (batches++ % 50 === 0) await openDoors();
    for (const [index, problem] of (await Promise.all(batch.map(send))).entries()) {
      if (problem !== null) found.set(`${batch[index]!.endpoint} ${/answers \d+|does not/.exec(problem)?.[0]}`, problem);
    }
    return found.size < 20;
  });
  const { seed } = await fc.check(property, { numRuns: Math.ceil(REQUESTS / AT_ONCE), endOnFailure: true });
  console.log(
    `fuzz: ${[...counts]
      .sort(([a], [b]) => a - b)
      .map(([status, count]) => `${count} x ${status}`)
      .join(', ')}`,
  );
  const never = [...reached].filter(([, count]) => count === 0).map(([name]) => name);
  console.log(`fuzz: never answered with success: ${never.join(', ') || 'none'}`);
  const problems = [...found.values()];
  expect(problems, `seed ${seed}: ${problems.join('\n').slice(0, 5_000)}`).toEqual([]);
  // A fuzzer that only ever finds closed doors proves nothing.
  expect(reached.size - never.length).toBeGreaterThan(reached.size * 0.6);
});
