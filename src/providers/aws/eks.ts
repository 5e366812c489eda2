/** The way to an EKS cluster from outside: its address from EKS, and a token that is a signed question to STS about who we are. */
import type * as EksSdk from '@aws-sdk/client-eks';
import type * as StsSdk from '@aws-sdk/client-sts';
import { KubeConfig } from '@kubernetes/client-node';
import { type AwsSettings, AwsService } from './client.ts';
import { AwsError } from './errors.ts';

/** EKS takes a token for 15 minutes from its signature; ours is renewed well before. */
const LIFE_SECONDS = 840;
const RENEW_AFTER_MS = 10 * 60_000;
const CLUSTER_HEADER = 'x-k8s-aws-id';

/** Tokens of one cluster. Many who ask at once share one. */
export class EksTokens {
  readonly #cluster: string;
  readonly #sts: AwsService<typeof StsSdk, StsSdk.STSClient>;
  readonly #now: () => number;
  #current: { token: Promise<string>; madeAt: number } | null = null;
  /** The current one, once it is signed. */
  #signed: string | null = null;

  constructor(settings: AwsSettings, cluster: string, now: () => number = Date.now) {
    this.#cluster = cluster;
    this.#now = now;
    this.#sts = new AwsService(
      settings,
      () => import('@aws-sdk/client-sts'),
      (sdk, config) => new sdk.STSClient(config),
    );
  }

  /** A token that is good for some minutes more. */
  token(): Promise<string> {
    const now = this.#now();
    // A clock that was set back makes an old token look young.
    const age = this.#current === null ? Number.POSITIVE_INFINITY : now - this.#current.madeAt;
    if (this.#current !== null && age >= 0 && age < RENEW_AFTER_MS) return this.#current.token;
    const token = this.#sign();
    const made = { token, madeAt: now };
    this.#current = made;
    token.then(
      (signed) => {
        if (this.#current === made) this.#signed = signed;
      },
      () => {
        if (this.#current === made) this.#current = null;
      },
    );
    return token;
  }

  /** The cluster refused this one: whoever asks next gets another. One that was made since is kept. */
  refused(token: string): void {
    if (this.#signed === token) this.#current = null;
  }

  /** Nothing is sent: the cluster itself puts the question to STS. */
  #sign(): Promise<string> {
    const { region, endpoint } = this.#sts.settings;
    return this.#sts.call(
      'signing a token for the cluster',
      async ({ client }) => {
        const { SignatureV4 } = await import('@smithy/signature-v4');
        const host = endpoint === undefined ? `sts.${region}.amazonaws.com` : new URL(endpoint).host;
        const signer = new SignatureV4({
          service: 'sts',
          region,
          credentials: client.config.credentials,
          sha256: client.config.sha256,
        });
        const { query = {} } = await signer.presign(
          {
            method: 'GET',
            protocol: 'https:',
            hostname: host,
            path: '/',
            query: { Action: 'GetCallerIdentity', Version: '2011-06-15' },
            headers: { host, [CLUSTER_HEADER]: this.#cluster },
          },
          { expiresIn: LIFE_SECONDS, signingDate: new Date(this.#now()), unhoistableHeaders: new Set([CLUSTER_HEADER]) },
        );
        const url = `https://${host}/?${new URLSearchParams(query as Record<string, string>)}`;
        return `k8s-aws-v1.${Buffer.from(url).toString('base64url')}`;
      },
      { repeatable: true },
    );
  }
}

export interface EksAccess {
  config: KubeConfig;
  tokens: EksTokens;
}

/**
 * Ask EKS where the cluster is, and make a configuration whose calls bear tokens.
 * @throws AwsError if EKS does not say, or has no such cluster; Error if the cluster is not up
 */
export async function eksAccess(settings: AwsSettings, name: string, now?: () => number): Promise<EksAccess> {
  const eks = new AwsService<typeof EksSdk, EksSdk.EKSClient>(
    settings,
    () => import('@aws-sdk/client-eks'),
    (sdk, config) => new sdk.EKSClient(config),
  );
  const { cluster } = await eks.call(
    `looking for the EKS cluster ${name}`,
    ({ client, sdk }, abortSignal) => client.send(new sdk.DescribeClusterCommand({ name }), { abortSignal }),
    { repeatable: true },
  );
  const { endpoint, certificateAuthority, status } = cluster ?? {};
  if (endpoint === undefined) {
    throw new AwsError(`looking for the EKS cluster ${name}`, 'busy', {
      code: status ?? 'NoEndpoint',
      status: 200,
      detail: 'the cluster has no endpoint yet',
    });
  }
  const tokens = new EksTokens(settings, name, now);
  const config = new KubeConfig();
  // Before the configuration is loaded: client-node takes the list of these as it is then.
  config.addAuthenticator({
    isAuthProvider: (user) => user.name === 'eks',
    applyAuthentication: async (_user, options) => {
      const headers = (options.headers ?? {}) as Record<string, string>;
      options.headers = { ...headers, Authorization: `Bearer ${await tokens.token()}` };
    },
  });
  config.loadFromOptions({
    clusters: [{ name, server: endpoint, ...(certificateAuthority?.data ? { caData: certificateAuthority.data } : {}) }],
    users: [{ name: 'eks' }],
    contexts: [{ name, cluster: name, user: 'eks' }],
    currentContext: name,
  });
  return { config, tokens };
}

/**
 * Access to the cluster that the settings name, if nothing nearer does: a kubeconfig and the service account of a pod go first.
 * @returns null if the usual ways are to be gone
 * @throws what {@link eksAccess} throws
 */
export async function eksAccessOf(
  settings: { aws: { calls: AwsSettings; eksCluster: string | null } | null; kubeconfig: string | undefined },
  environment: NodeJS.ProcessEnv,
): Promise<EksAccess | null> {
  const { aws, kubeconfig } = settings;
  if (aws === null || aws.eksCluster === null || kubeconfig !== undefined || environment.KUBERNETES_SERVICE_HOST) return null;
  return eksAccess(aws.calls, aws.eksCluster);
}
