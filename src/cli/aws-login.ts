/** Logging in with an identity of AWS: the request that tells it is signed here, and nothing secret leaves this machine. */
import { defaultProvider } from '@aws-sdk/credential-provider-node';
import { type AwsCredentials, signIdentityRequest } from '../identity/sign.ts';
import { CliError, EXIT } from './exit.ts';
import { type LoginAnswer, postOpenly } from './session.ts';
import type { Surroundings } from './surroundings.ts';

/** For what the service wants a request to be made. */
interface Wanted {
  enabled: boolean;
  sts_host: string;
  region: string;
}

/** Hosts of AWS itself: to no other is a request signed, whatever a service asks for. */
const STS_HOST = /^sts(\.[a-z]{2}(-[a-z]+)+-\d)?\.amazonaws\.com(\.cn)?$/;

/**
 * Log in with the credentials that the AWS tools would use: the environment, a profile, single sign-on, the machine's own role.
 * @throws CliError that says what is missing
 */
export async function signedLogin(base: URL, surroundings: Surroundings, profile?: string): Promise<LoginAnswer> {
  const wanted = await wantedBy(base, surroundings);
  const credentials = await credentialsOf(profile);
  const request = await signIdentityRequest(credentials, {
    host: wanted.sts_host,
    region: wanted.region,
    // Not what the service says of itself: one that lies could use the request elsewhere.
    serverId: surroundings.environment.GPU_DEV_SERVER_ID || base.hostname.replace(/^\[|\]$/g, ''),
  });
  return postOpenly<LoginAnswer>(base, '/v1/auth/aws-login', request, surroundings.interrupted);
}

async function wantedBy(base: URL, { environment, interrupted }: Surroundings): Promise<Wanted> {
  const wanted = await getOpenly<Wanted>(base, '/v1/auth/aws-login', interrupted);
  if (!wanted.enabled) throw new CliError(EXIT.refused, `Nobody may log in with AWS at ${base.origin}. Ask its operator.`);
  const own = environment.AWS_ENDPOINT_URL_STS || environment.AWS_ENDPOINT_URL || '';
  const ownEndpoint = URL.canParse(own) ? new URL(own).host : null;
  if (!STS_HOST.test(wanted.sts_host) && wanted.sts_host !== ownEndpoint) {
    throw new CliError(EXIT.refused, `${base.origin} wants a login at ${wanted.sts_host}, which is not AWS. Nothing was sent.`);
  }
  return wanted;
}

async function credentialsOf(profile: string | undefined): Promise<AwsCredentials> {
  try {
    return await defaultProvider(profile === undefined ? {} : { profile })();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CliError(
      EXIT.refused,
      `There are no AWS credentials to log in with: ${why}. Try: aws sso login, or set AWS_PROFILE; on a laptop: gpu-dev login --local`,
    );
  }
}

async function getOpenly<T>(base: URL, path: string, interrupted: AbortSignal): Promise<T> {
  try {
    const response = await fetch(new URL(path, base), {
      headers: { accept: 'application/json' },
      redirect: 'error',
      signal: AbortSignal.any([interrupted, AbortSignal.timeout(10_000)]),
    });
    if (!response.ok) throw new Error(String(response.status));
    return (await response.json()) as T;
  } catch {
    interrupted.throwIfAborted();
    throw new CliError(
      EXIT.unreachable,
      `gpu-dev does not answer at ${base.origin}. Set GPU_DEV_URL to the address of the service.`,
    );
  }
}
