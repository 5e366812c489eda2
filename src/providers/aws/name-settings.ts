/** The environment variables of names and of ways to Jupyter, and what is made of them. */
import { z } from 'zod';
import type { AwsSettings } from './client.ts';

const arn = (what: string) =>
  z.string().regex(new RegExp(`^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:\\d{12}:${what}/\\S+$`));

/** The variables, for the schema of the whole environment. */
export const NameEnvironment = {
  /** Under which servers get names. Without a zone, a record for all of them stands there already. */
  DOMAIN_NAME: z
    .string()
    .toLowerCase()
    .transform((text) => text.replace(/\.$/, ''))
    .pipe(
      z
        .string()
        .max(190)
        .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$/, 'must be a domain such as dev.example.org'),
    )
    .optional(),
  HOSTED_ZONE_ID: z
    .string()
    .transform((text) => text.replace(/^\/hostedzone\//, ''))
    .pipe(z.string().regex(/^[A-Z0-9]{1,32}$/, 'must be the id of a hosted zone of Route 53'))
    .optional(),
  JUPYTER_ALB_ARN: arn('loadbalancer').optional(),
  JUPYTER_ALB_LISTENER_ARN: arn('listener').optional(),
  JUPYTER_ALB_DNS: z
    .string()
    .toLowerCase()
    .regex(/^[a-z0-9.-]{1,253}$/, 'must be the DNS name of the load balancer')
    .optional(),
  JUPYTER_ALB_VPC_ID: z
    .string()
    .regex(/^vpc-[0-9a-f]+$/, 'must be the id of a VPC')
    .optional(),
  /** How it leads to Jupyter: by rules of a listener of an ALB, or by listeners of an NLB. */
  JUPYTER_TARGET: z.enum(['instance', 'tcp']).default('instance'),
  /** Priorities of rules, or ports of listeners, that are ours to give. */
  JUPYTER_PLACES: z
    .string()
    .regex(/^\d{1,5}-\d{1,5}$/, 'must be a range such as 1000-1999')
    .transform((text) => text.split('-').map(Number) as [number, number])
    .refine(([first, last]) => first >= 1 && first <= last && last <= 50_000, 'must be a range within 1 to 50000')
    .optional(),
};

type Variables = z.infer<z.ZodObject<typeof NameEnvironment>>;

export type Balancer = {
  vpc: string;
  dns: string;
  places: readonly [number, number];
} & ({ kind: 'alb'; listener: string } | { kind: 'nlb'; loadBalancer: string });

export interface NameSettings {
  /** null: servers have no names, and their nodes' addresses are shown. */
  domain: string | null;
  /** null: no records are made. */
  zone: string | null;
  balancer: Balancer | null;
  /** How AWS is called; null without a zone and a balancer. */
  aws: AwsSettings | null;
}

/**
 * What they say.
 * @param aws how AWS is called; null where there is none
 * @throws Error naming the variable that does not go with the others
 */
export function nameSettingsOf(env: Variables, aws: AwsSettings | null): NameSettings {
  const { DOMAIN_NAME: domain = null, HOSTED_ZONE_ID: zone = null } = env;
  const balancer = balancerOf(env);
  const needs = zone !== null ? 'HOSTED_ZONE_ID' : balancer !== null ? 'a load balancer for Jupyter' : null;
  if (needs !== null && domain === null) throw new Error(`The environment variable DOMAIN_NAME is not set, and ${needs} is`);
  if (needs !== null && aws === null) throw new Error(`The environment variable CLOUD_PROVIDER is not aws, and ${needs} is set`);
  return { domain, zone, balancer, aws };
}

/** The load balancer, if one is named: wholly, or it is said what is missing. */
function balancerOf(env: Variables): Balancer | null {
  const isAlb = env.JUPYTER_TARGET === 'instance';
  const main = isAlb ? 'JUPYTER_ALB_LISTENER_ARN' : 'JUPYTER_ALB_ARN';
  const value = env[main];
  if (value === undefined) {
    if (!isAlb) throw new Error(`The environment variable ${main} is not set, and JUPYTER_TARGET is tcp`);
    return null;
  }
  const { JUPYTER_ALB_VPC_ID: vpc, JUPYTER_ALB_DNS: dns } = env;
  if (vpc === undefined) throw new Error(`The environment variable JUPYTER_ALB_VPC_ID is not set, and ${main} is`);
  if (dns === undefined) throw new Error(`The environment variable JUPYTER_ALB_DNS is not set, and ${main} is`);
  const common = { vpc, dns, places: env.JUPYTER_PLACES ?? (isAlb ? ([1_000, 49_999] as const) : ([10_000, 10_999] as const)) };
  return isAlb ? { ...common, kind: 'alb', listener: value } : { ...common, kind: 'nlb', loadBalancer: value };
}
