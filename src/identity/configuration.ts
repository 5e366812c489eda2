/** The environment variables of identity. */
import { z } from 'zod';
import { UserName } from '../../actors/intake/messages.ts';
import { LONGEST_TTL_HOURS } from './api-key.ts';
import type { AwsLoginSettings } from './settings.ts';

const words = z
  .string()
  .default('')
  .transform((text) => text.split(/[\s,]+/).filter((part) => part !== ''));
const flag = (fallback: 'true' | 'false') =>
  z
    .enum(['true', 'false'])
    .default(fallback)
    .transform((text) => text === 'true');

export const AwsRegion = z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d$/, 'must be a region such as us-east-1');

/** Another place than AWS's own. */
const endpoint = z
  .url({ protocol: /^https?$/ })
  .refine((text) => /^https?:\/\/[^/?#@]+\/?$/.test(text), 'must be a scheme, a host and no more')
  .optional();

/** The variables, for the schema of the whole environment. */
export const IdentityEnvironment = {
  /** Local mode: who comes over the loopback address is believed who they are. */
  GPU_DEV_LOCAL: flag('false'),
  /** Names of users who are admins. */
  GPU_DEV_ADMINS: words.pipe(z.array(UserName)),
  API_KEY_TTL_HOURS: z.coerce.number().min(1).max(LONGEST_TTL_HOURS).default(2),
  API_KEYS_PER_USER: z.coerce.number().int().min(1).max(100_000).default(50),
  /** Login with AWS. */
  ALLOWED_AWS_ACCOUNTS: words.pipe(z.array(z.string().regex(/^\d{12}$/, 'must be account ids of 12 digits'))),
  ALLOWED_AWS_ROLE: z
    .string()
    .default('SSOCloudDevGpuReservation')
    .transform((text) => text.split(/[\s,]+/).filter((part) => part !== ''))
    .pipe(z.array(z.string().regex(/^[\w+=.@-]{1,64}$/, 'must be names of roles')).min(1)),
  AWS_REGION: AwsRegion.default('us-east-1'),
  AWS_STS_GLOBAL: flag('false'),
  AWS_ENDPOINT_URL_STS: endpoint,
  AWS_ENDPOINT_URL: endpoint,
  GPU_DEV_SERVER_ID: words.pipe(z.array(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/, 'must be names of this service'))),
  AWS_LOGIN_ACCEPT_KEYS: flag('true'),
  /** Proxies whose word on the client's address and protocol is taken. */
  GPU_DEV_TRUSTED_PROXIES: words.pipe(
    z.array(z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()], 'must be addresses or ranges')),
  ),
};

type Variables = z.infer<z.ZodObject<typeof IdentityEnvironment>>;

/** What they say. */
export function identityOf(env: Variables) {
  const aws: AwsLoginSettings = {
    accounts: env.ALLOWED_AWS_ACCOUNTS,
    roles: env.ALLOWED_AWS_ROLE,
    region: env.AWS_REGION,
    globalEndpoint: env.AWS_STS_GLOBAL,
    endpoint: (env.AWS_ENDPOINT_URL_STS ?? env.AWS_ENDPOINT_URL)?.replace(/\/$/, '') ?? null,
    serverIds: env.GPU_DEV_SERVER_ID,
    acceptKeys: env.AWS_LOGIN_ACCEPT_KEYS,
  };
  return {
    local: env.GPU_DEV_LOCAL,
    admins: env.GPU_DEV_ADMINS,
    keyTtlHours: env.API_KEY_TTL_HOURS,
    keysPerUser: env.API_KEYS_PER_USER,
    aws,
    trustedProxies: env.GPU_DEV_TRUSTED_PROXIES,
  };
}
