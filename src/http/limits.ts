/**
 * How often one may ask: each key, and each address that asks without a good one. Counted by each replica for itself, so with two of them a
 * client may reach twice as much; what must hold exactly (reservations, GPUs) is a quota, and counted in the database.
 */
import rateLimit from '@fastify/rate-limit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Problem } from '../errors.ts';
import type { Server } from './deps.ts';

export interface RateLimits {
  /** Requests a minute with one key; 0 for any number. */
  perKey: number;
  /** Logins, and requests refused with 401, a minute from one address; 0 for any number. */
  perAddress: number;
}

const WINDOW_MS = 60_000;
/** Keys and addresses that are remembered; whoever was not seen for longest is forgotten first. */
const MOST_KEPT = 20_000;
const LOGIN = /^\/v1\/auth\//;

type Count = Awaited<ReturnType<ReturnType<Server['createRateLimit']>>>;

/** Told of a request whose key was not good. @throws Problem 429 when there were too many of them from its address */
export type CountRefused = (request: FastifyRequest, reply: FastifyReply) => Promise<void>;

/**
 * Count strangers: those who log in, and, by what is returned, those whose key is not good. Whoever asks from the same address with a good key is
 * not held up. To be called before access is required.
 */
export async function limitStrangers(app: Server, { perAddress }: RateLimits): Promise<CountRefused> {
  await app.register(rateLimit, { global: false, cache: MOST_KEPT });
  if (perAddress === 0) return async () => undefined;
  const count = app.createRateLimit({ max: perAddress, timeWindow: WINDOW_MS });
  const countRefused: CountRefused = async (request, reply) => {
    const found = await count(request);
    if (isTooMuch(found)) throw tooOften(reply, found, 'this address');
  };
  app.addHook('onRequest', async (request, reply) => {
    if (LOGIN.test(request.routeOptions.url ?? '')) await countRefused(request, reply);
  });
  return countRefused;
}

/** Count the requests of each key. To be called after access is required. */
export function limitKeys(app: Server, { perKey }: RateLimits): void {
  if (perKey === 0) return;
  const keyOf = ({ principal }: FastifyRequest) => `key:${principal?.keyId}`;
  const count = app.createRateLimit({ max: perKey, timeWindow: WINDOW_MS, keyGenerator: keyOf });
  app.addHook('onRequest', async (request, reply) => {
    if (request.principal === null) return;
    const found = await count(request);
    if (isTooMuch(found)) throw tooOften(reply, found, 'this key');
  });
}

function isTooMuch(found: Count): boolean {
  return !found.isAllowed && found.isExceeded;
}

function tooOften(reply: FastifyReply, found: Count, who: string): Problem {
  const [limit, wait] = found.isAllowed ? [0, 1] : [found.max, Math.max(1, found.ttlInSeconds)];
  void reply.headers({ 'ratelimit-limit': String(limit), 'ratelimit-remaining': '0', 'ratelimit-reset': String(wait) });
  return new Problem('GPU_RATE_LIMITED', `Too many requests from ${who}: ${limit} a minute are allowed`, {
    details: { limit, window_seconds: WINDOW_MS / 1_000, retry_after: wait },
  });
}
