/** The way to a cluster: one configuration, kept connections, a time limit on every call. */
import {
  AuthorizationV1Api,
  BatchV1Api,
  CoreV1Api,
  CustomObjectsApi,
  createConfiguration,
  IsomorphicFetchHttpLibrary,
  KubeConfig,
  NetworkingV1Api,
  Observable,
  type RequestContext,
  ResponseContext,
  ServerConfiguration,
  setHeaderOptions,
  StorageV1Api,
} from '@kubernetes/client-node';

export interface ClientOptions {
  /** A kubeconfig file. Left out: KUBECONFIG, else the service account of the pod we run in, else ~/.kube/config. */
  kubeconfig?: string;
  /** Namespace of the dev servers, their disks and builds. Default gpu-dev. */
  namespace?: string;
  /** Limit of one call, body included, in milliseconds. Default 15,000. */
  requestTimeoutMs?: number;
  /** In place of a file: a cluster that was found elsewhere, and the tokens that its calls bear. */
  access?: { config: KubeConfig; tokens: TokenSource };
}

/** Tokens that end after a time. */
export interface TokenSource {
  token(): Promise<string>;
  /** The cluster did not take this one. */
  refused(token: string): void;
}

/** Clients of the API groups we use, all on the same kept connections. */
export interface KubernetesClient {
  config: KubeConfig;
  namespace: string;
  core: CoreV1Api;
  batch: BatchV1Api;
  networking: NetworkingV1Api;
  storage: StorageV1Api;
  custom: CustomObjectsApi;
  authorization: AuthorizationV1Api;
  /** Whose tokens the calls bear, where tokens end. */
  tokens: TokenSource | null;
  /** When the API server last answered anything, refusals included, in milliseconds since the epoch. */
  lastContact(): number | null;
  /**
   * Resolves if the cluster that answers is the one that is meant; at once for a client that is not guarded.
   * @param notBefore as {@link CallGuard.confirm} takes it
   */
  confirm(notBefore?: number): Promise<void>;
}

/** Whether the cluster that answers is the one that is meant. */
export interface CallGuard {
  /**
   * @param notBefore the moment (of performance.now) before which an answer to that question is too old
   * @throws Error if it is another one, or that is not known
   */
  confirm(notBefore?: number): Promise<void>;
  /** The way to the cluster broke: who answers next may be another. */
  forget(): void;
}

/**
 * A client of the cluster that the options name. Makes no call yet.
 * @throws Error if the configuration names no cluster
 */
export function createClient(options: ClientOptions = {}): KubernetesClient {
  const config = options.access?.config ?? loadConfig(options.kubeconfig);
  const cluster = config.getCurrentCluster();
  if (cluster === null)
    throw new Error(`No cluster in the Kubernetes configuration ${options.kubeconfig ?? process.env.KUBECONFIG ?? ''}`);
  keepConnections(config);
  const http = new TimedHttp(options.requestTimeoutMs ?? 15_000, null, options.access?.tokens ?? null);
  return clientOver(config, options.namespace ?? 'gpu-dev', http);
}

/**
 * The same client, on the same connections, whose calls are made only while the guard confirms the cluster, and whose 404s count only if it
 * does so after them. A call that is not made fails as one that found no answer: what it was about is unknown, never missing.
 */
export function guarded(client: KubernetesClient, guard: CallGuard, requestTimeoutMs = 15_000): KubernetesClient {
  return clientOver(client.config, client.namespace, new TimedHttp(requestTimeoutMs, guard, client.tokens));
}

function clientOver(config: KubeConfig, namespace: string, http: TimedHttp): KubernetesClient {
  const settings = createConfiguration({
    baseServer: new ServerConfiguration(config.getCurrentCluster()!.server, {}),
    authMethods: { default: config },
    httpApi: http,
  });
  return {
    config,
    namespace,
    core: new CoreV1Api(settings),
    batch: new BatchV1Api(settings),
    networking: new NetworkingV1Api(settings),
    storage: new StorageV1Api(settings),
    custom: new CustomObjectsApi(settings),
    authorization: new AuthorizationV1Api(settings),
    tokens: http.tokens,
    lastContact: () => http.lastContact,
    confirm: (notBefore) => http.guard?.confirm(notBefore) ?? Promise.resolve(),
  };
}

/** Option of a call whose answer we need no more of than the metadata; the object that was sent is ours anyway. */
export function briefly() {
  return setHeaderOptions('Accept', 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json');
}

/** What we use of the connection pool that client-node makes. */
interface Pool {
  request(options: {
    origin: string;
    path: string;
    method: string;
    headers: Record<string, string>;
    body: unknown;
    signal: AbortSignal;
  }): Promise<{
    statusCode: number;
    headers: Record<string, string | string[] | undefined>;
    body: { text(): Promise<string>; arrayBuffer(): Promise<ArrayBuffer> };
  }>;
}

/**
 * Every request gets a limit that covers its body too: a connection that went silent must not hold a handler for ever. Requests go straight to
 * the connection pool: fetch, with its web streams and its headers, costs more than all the rest of a call.
 */
class TimedHttp extends IsomorphicFetchHttpLibrary {
  lastContact: number | null = null;
  readonly guard: CallGuard | null;
  readonly tokens: TokenSource | null;
  readonly #limit: number;
  constructor(limit: number, guard: CallGuard | null, tokens: TokenSource | null) {
    super();
    this.#limit = limit;
    this.guard = guard;
    this.tokens = tokens;
  }
  override send(request: RequestContext): Observable<ResponseContext> {
    return new Observable(this.guard === null ? this.#told(request) : this.#guarded(request, this.guard));
  }

  /** A token that the cluster does not take is renewed, once: it may have ended before its time, or been made by a clock that goes wrong. */
  async #told(request: RequestContext): Promise<ResponseContext> {
    const response = await this.#call(request);
    if (this.tokens === null || response.httpStatusCode !== 401) return response;
    this.tokens.refused((request.getHeaders().Authorization ?? '').replace(/^Bearer /, ''));
    request.setHeaderParam('Authorization', `Bearer ${await this.tokens.token()}`);
    return this.#call(request);
  }

  /** A 404 to whoever removes something is no proof that anybody relies on; one to whoever looks for something is. */
  async #guarded(request: RequestContext, guard: CallGuard): Promise<ResponseContext> {
    await guard.confirm();
    let response: ResponseContext;
    try {
      response = await this.#told(request);
    } catch (error) {
      guard.forget();
      throw error;
    }
    if (response.httpStatusCode === 404 && request.getHttpMethod().toString() === 'GET') await guard.confirm(performance.now());
    return response;
  }

  async #call(request: RequestContext): Promise<ResponseContext> {
    const limit = AbortSignal.timeout(this.#limit);
    const given = request.getSignal();
    const signal = given === undefined ? limit : AbortSignal.any([given, limit]);
    const pool = request.getDispatcher() as unknown as Pool | undefined;
    if (typeof pool?.request === 'function') return this.#ask(pool, request, signal);
    request.setSignal(signal);
    const response = await super.send(request).toPromise();
    this.lastContact = Date.now();
    return response;
  }

  async #ask(pool: Pool, request: RequestContext, signal: AbortSignal): Promise<ResponseContext> {
    const { origin, pathname, search } = new URL(request.getUrl());
    const answer = pool.request({
      origin,
      path: pathname + search,
      method: request.getHttpMethod().toString(),
      headers: request.getHeaders(),
      body: request.getBody() ?? null,
      signal,
    });
    const response = await orAborted(answer, signal);
    this.lastContact = Date.now();
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(response.headers)) if (value !== undefined) headers[name] = String(value);
    const { body } = response;
    return new ResponseContext(response.statusCode, headers, {
      text: () => body.text(),
      binary: async () => Buffer.from(await body.arrayBuffer()),
      stream: () => null,
    });
  }
}

/** The pool looks at the signal of a request only once it has a connection: a TLS handshake into nothing would take its own ten seconds. */
function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    const done = (): void => signal.removeEventListener('abort', abort);
    work.then(resolve, reject).then(done, done);
  });
}

function loadConfig(file: string | undefined): KubeConfig {
  const config = new KubeConfig();
  if (file === undefined) config.loadFromDefault();
  else config.loadFromFile(file);
  // Plain http is only ever the simulated cluster on this machine; client-node refuses it without this mark.
  config.clusters = config.clusters.map((cluster) =>
    cluster.server.startsWith('http://') ? { ...cluster, skipTLSVerify: true } : cluster,
  );
  return config;
}

/**
 * client-node makes a new connection pool for each request as soon as TLS options exist, so no connection is ever used twice.
 * One pool for each set of options is what we want; options change only when a certificate rotates.
 */
function keepConnections(config: KubeConfig): void {
  type Maker = (cluster: unknown, options: Record<string, unknown>) => unknown;
  const inner = config as unknown as { createDispatcher: Maker };
  const make = inner.createDispatcher.bind(config);
  let last: { key: string; dispatcher: unknown } | null = null;
  inner.createDispatcher = (cluster, options) => {
    const key = Object.entries(options)
      .map(([name, value]) => `${name}=${Buffer.isBuffer(value) ? value.toString('latin1') : String(value)}`)
      .join('\n');
    if (last?.key !== key) last = { key, dispatcher: make(cluster, options) };
    return last.dispatcher;
  };
}
