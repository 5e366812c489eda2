// Plain calls to a Kubernetes API server: JSON as it is on the wire, any path, kept connections.
import { readFileSync } from 'node:fs';
import https from 'node:https';

export interface Access {
  /** https://host:port */
  server: string;
  caFile: string;
  token: string;
}

// biome-ignore lint/suspicious/noExplicitAny: objects of the API are read field by field.
export type Loose = any;

export interface Answer {
  status: number;
  body: Loose;
}

export const MERGE = 'application/merge-patch+json';
export const STRATEGIC = 'application/strategic-merge-patch+json';

/** A call that was answered with another status than 2xx. */
export class ApiRefusal extends Error {
  override readonly name = 'ApiRefusal';
  readonly status: number;
  constructor(doing: string, { status, body }: Answer) {
    super(`${doing}: ${status} ${body?.message ?? JSON.stringify(body)}`);
    this.status = status;
  }
}

export class Api {
  readonly access: Access;
  readonly #agent: https.Agent;

  constructor(access: Access) {
    this.access = access;
    this.#agent = new https.Agent({ keepAlive: true, maxSockets: 32, ca: readFileSync(access.caFile) });
  }

  /** One call, whatever its answer. @throws Error if no answer came */
  call(method: string, path: string, body?: unknown, type = 'application/json'): Promise<Answer> {
    const text = body === undefined ? '' : JSON.stringify(body);
    // Node sends the body of a DELETE only when its length is given.
    const headers = {
      authorization: `Bearer ${this.access.token}`,
      'content-type': type,
      'content-length': Buffer.byteLength(text),
    };
    return new Promise((resolve, reject) => {
      const request = https.request(`${this.access.server}${path}`, { method, headers, agent: this.#agent }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const answer = Buffer.concat(chunks).toString();
          resolve({
            status: response.statusCode ?? 0,
            body: answer.startsWith('{') ? JSON.parse(answer) : { message: answer },
          });
        });
      });
      request.setTimeout(30_000, () => request.destroy(new Error(`${method} ${path}: no answer in 30 s`)));
      request.on('error', reject);
      request.end(text);
    });
  }

  /** The body of a call that must succeed. @throws ApiRefusal */
  async ask(method: string, path: string, body?: unknown, type?: string): Promise<Loose> {
    const answer = await this.call(method, path, body, type);
    if (answer.status >= 300) throw new ApiRefusal(`${method} ${path}`, answer);
    return answer.body;
  }

  /** Create an object unless one of its name is there. */
  async ensure(path: string, body: unknown): Promise<void> {
    const answer = await this.call('POST', path, body);
    if (answer.status >= 300 && answer.status !== 409) throw new ApiRefusal(`POST ${path}`, answer);
  }

  close(): void {
    this.#agent.destroy();
  }
}
