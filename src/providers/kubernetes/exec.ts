/** A command inside a server: run to its end, with a time limit. */
import { PassThrough } from 'node:stream';
import { Exec, type V1Status } from '@kubernetes/client-node';
import type { KubernetesClient } from './client.ts';
import { EXEC_FAILED, KubernetesError } from './errors.ts';
import { MAIN_CONTAINER } from './objects.ts';

export interface Ran {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export interface ExecOptions {
  /** Input, which stays open after it: its end cannot be told to clusters before 1.30, so the command must know where to stop. */
  stdin?: string;
  /** Milliseconds. Default 10,000. */
  timeoutMs?: number;
  /** How bytes become text. Default utf8; latin1 keeps every byte. */
  encoding?: 'utf8' | 'latin1';
  /** Bytes of each stream that will be read. Default 65,536. */
  longest?: number;
}

/**
 * Run argv in the main container of a pod.
 * @throws KubernetesError with status 404 if there is no such pod, null if no answer came in time. A code other than 0 is no error here.
 */
export async function runInside(client: KubernetesClient, pod: string, argv: string[], options: ExecOptions = {}): Promise<Ran> {
  const doing = `running ${argv[0]} in ${pod}`;
  const out = new PassThrough();
  const err = new PassThrough();
  let flooded = () => {};
  const { encoding = 'utf8', longest = LONGEST_OUTPUT } = options;
  const output = Promise.all([out, err].map((stream) => head(stream, { encoding, longest }, () => flooded())));
  const stdin = options.stdin === undefined ? null : new PassThrough();
  stdin?.write(options.stdin);
  let socket: { close(): void } | null = null;
  let timer: NodeJS.Timeout | undefined;
  let over = false;
  const close = (): void => {
    over = true;
    clearTimeout(timer);
    out.end();
    err.end();
    stdin?.destroy();
    socket?.close();
  };
  try {
    const status = await new Promise<V1Status>((resolve, reject) => {
      flooded = () => reject(new KubernetesError(doing, null, 'Flood', 'the command says more than anybody will read'));
      timer = setTimeout(
        () => reject(new KubernetesError(doing, null, 'Timeout', 'the command did not end in time')),
        options.timeoutMs ?? 10_000,
      );
      new Exec(client.config).exec(client.namespace, pod, MAIN_CONTAINER, argv, out, err, stdin, false, resolve).then(
        (given) => {
          socket = given;
          if (over) given.close();
          given.on('close', () => reject(new KubernetesError(doing, null, 'Closed', 'the connection ended before the command')));
        },
        (error: unknown) => reject(handshakeError(doing, error)),
      );
    });
    const code = status.details?.causes?.find(({ reason }) => reason === 'ExitCode')?.message;
    if (status.status !== 'Success' && code === undefined) {
      throw new KubernetesError(doing, status.code ?? 500, EXEC_FAILED, status.message ?? '');
    }
    close();
    const [stdout = '', stderr = ''] = await output;
    return { exitCode: status.status === 'Success' ? 0 : Number(code), stdout, stderr };
  } finally {
    close();
  }
}

/** Of each stream, in bytes: whoever is root inside may put anything in the place of the command. */
const LONGEST_OUTPUT = 64 * 1024;

/** What comes, as long as it is no flood. */
async function head(
  stream: PassThrough,
  { encoding, longest }: { encoding: BufferEncoding; longest: number },
  onFlood: () => void,
): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= longest) chunks.push(chunk);
    else onFlood();
  }
  return Buffer.concat(chunks).toString(encoding);
}

/** A refused upgrade says its status in the text of an event only. */
function handshakeError(doing: string, error: unknown): KubernetesError {
  const message = (error as { message?: string }).message ?? 'the connection failed';
  const status = /Unexpected server response: (\d+)/.exec(message)?.[1];
  return new KubernetesError(
    doing,
    status === undefined ? null : Number(status),
    status === '404' ? 'NotFound' : EXEC_FAILED,
    message,
  );
}
