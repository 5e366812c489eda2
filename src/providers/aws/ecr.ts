/** Builds whose images go to ECR: the repository is there before the first of them, and the credentials with which they push are renewed. */
import type * as Sdk from '@aws-sdk/client-ecr';
import { PatchStrategy, setHeaderOptions, type V1Secret } from '@kubernetes/client-node';
import { NotYet, TerminalError } from '../../../actors/errors.ts';
import type { BuildProgress, BuildRequest, ImageBuilder } from '../../../actors/image/ports.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { asPort, attempt, attemptOrNull, hasStatus } from '../kubernetes/errors.ts';
import { LABEL, MANAGED_BY } from '../kubernetes/objects.ts';
import { type AwsSettings, AwsService } from './client.ts';
import { AwsError, asAwsPort } from './errors.ts';
import { triedInVain, unlessDenied } from './rights.ts';
import { TAG, writeTags } from './tags.ts';

/** Secret with the credentials, in the namespace of the builds. */
export const ECR_SECRET = 'gpu-dev-ecr-login';
const EXPIRES = 'gpu-dev.io/expires-at';
/** A build that begins now pushes within this time; ECR gives twelve hours. */
const NEEDED_MS = 2 * 3_600_000;

export interface EcrOptions {
  settings: AwsSettings;
  client: KubernetesClient;
  /** `ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME` */
  repository: string;
  builder: ImageBuilder;
  now?: () => number;
}

export class EcrBuilder implements ImageBuilder {
  readonly #options: EcrOptions;
  readonly #now: () => number;
  readonly #ecr: AwsService<typeof Sdk, Sdk.ECRClient>;
  #repositoryIsThere = false;
  /** Until when the Secret that we last saw is good. */
  #goodUntil = 0;

  constructor(options: EcrOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#ecr = ecrAt(options.settings);
  }

  /** @throws TerminalError if the repository's name is taken by one that is not ours */
  async build(request: BuildRequest): Promise<BuildProgress> {
    await asPort(() => asAwsPort(() => this.#prepare()));
    return this.#options.builder.build(request);
  }

  cancel(request: Pick<BuildRequest, 'hash' | 'attempt'>): Promise<void> {
    return this.#options.builder.cancel(request);
  }

  async #prepare(): Promise<void> {
    if (!this.#repositoryIsThere) await this.#ensureRepository();
    if (this.#goodUntil - this.#now() < NEEDED_MS) await this.#renewLogin();
  }

  async #ensureRepository(): Promise<void> {
    const { repository, settings } = this.#options;
    const repositoryName = repository.slice(repository.indexOf('/') + 1);
    try {
      await this.#ecr.call(
        `making the repository ${repositoryName}`,
        ({ client, sdk }, abortSignal) =>
          client.send(
            new sdk.CreateRepositoryCommand({
              repositoryName,
              imageScanningConfiguration: { scanOnPush: true },
              tags: writeTags({ [TAG.cluster]: settings.cluster }),
            }),
            { abortSignal },
          ),
        { repeatable: true },
      );
    } catch (error) {
      // One that is there is used, whoever made it: nothing of it is ever deleted by us.
      if (!(error instanceof AwsError) || error.code !== 'RepositoryAlreadyExistsException') throw error;
    }
    this.#repositoryIsThere = true;
  }

  async #renewLogin(): Promise<void> {
    const { core, namespace } = this.#options.client;
    const found = await attemptOrNull(`reading the secret ${ECR_SECRET}`, () =>
      core.readNamespacedSecret({ namespace, name: ECR_SECRET }),
    );
    if (found !== null && found.metadata?.labels?.[LABEL.managedBy] !== MANAGED_BY)
      throw new TerminalError(`The secret ${ECR_SECRET} on the cluster is not ours`);
    const until = Date.parse(found?.metadata?.annotations?.[EXPIRES] ?? '');
    if (until - this.#now() >= NEEDED_MS) {
      this.#goodUntil = until;
      return;
    }
    const body = await this.#login();
    try {
      await attempt(`writing the secret ${ECR_SECRET}`, () =>
        found === null
          ? core.createNamespacedSecret({ namespace, body })
          : core.patchNamespacedSecret(
              { namespace, name: ECR_SECRET, body: { data: body.data, metadata: { annotations: body.metadata?.annotations } } },
              setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
            ),
      );
    } catch (error) {
      if (hasStatus(error, 409)) throw new NotYet(100, 'Another renews the login of the registry');
      throw error;
    }
    this.#goodUntil = Date.parse(body.metadata?.annotations?.[EXPIRES] ?? '');
  }

  async #login(): Promise<V1Secret> {
    const { repository } = this.#options;
    const { authorizationData = [] } = await askForLogin(this.#ecr);
    const [{ authorizationToken: auth, expiresAt } = {}] = authorizationData;
    if (auth === undefined || expiresAt === undefined)
      throw new AwsError('asking ECR for credentials', 'unknown', { code: 'IncompleteAnswer', status: null, detail: '' });
    const config = { auths: { [repository.split('/')[0]!]: { auth } } };
    return {
      metadata: {
        name: ECR_SECRET,
        labels: { [LABEL.managedBy]: MANAGED_BY },
        annotations: { [EXPIRES]: expiresAt.toISOString() },
      },
      type: 'kubernetes.io/dockerconfigjson',
      data: { '.dockerconfigjson': Buffer.from(JSON.stringify(config)).toString('base64') },
    };
  }
}

function ecrAt(settings: AwsSettings): AwsService<typeof Sdk, Sdk.ECRClient> {
  return new AwsService(
    settings,
    () => import('@aws-sdk/client-ecr'),
    (sdk, config) => new sdk.ECRClient(config),
  );
}

function askForLogin(ecr: AwsService<typeof Sdk, Sdk.ECRClient>): Promise<Sdk.GetAuthorizationTokenCommandOutput> {
  return ecr.call(
    'asking ECR for credentials',
    ({ client, sdk }, abortSignal) => client.send(new sdk.GetAuthorizationTokenCommand({}), { abortSignal }),
    { repeatable: true },
  );
}

/**
 * What is missing for builds, as far as it can be tried without making anything: the login, and one of the rights on the repository, which are
 * given together; it need not be there yet.
 * @throws AwsError if ECR does not say
 */
export async function findEcrObstacles(settings: AwsSettings, repository: string): Promise<string[]> {
  const ecr = ecrAt(settings);
  const repositoryName = repository.slice(repository.indexOf('/') + 1);
  const look = () =>
    ecr.call(
      `looking at the repository ${repositoryName}`,
      ({ client, sdk }, abortSignal) =>
        client.send(new sdk.BatchGetImageCommand({ repositoryName, imageIds: [{ imageTag: 'gpu-dev-none' }] }), { abortSignal }),
      { repeatable: true },
    );
  return [
    ...(await unlessDenied('ecr:GetAuthorizationToken', () => askForLogin(ecr))),
    ...(await triedInVain('ecr:BatchGetImage', look)),
  ];
}

/** The name under which ECR's pull-through cache has an image of Docker Hub; others are as they are. */
export function throughCache(image: string, cache: string | null): string {
  if (cache === null) return image;
  const [first = '', ...rest] = image.split('/');
  const named = rest.length > 0 && /[.:]|^localhost$/.test(first);
  if (named && first !== 'docker.io' && first !== 'index.docker.io') return image;
  const path = named ? rest : [first, ...rest];
  return `${cache.replace(/\/+$/, '')}/${path.length === 1 ? 'library/' : ''}${path.join('/')}`;
}
