/** Signing the request that tells AWS, and whoever forwards it, whose credentials these are. */
import { createHash, createHmac, randomUUID } from 'node:crypto';
import { SignatureV4 } from '@smithy/signature-v4';
import { NONCE_HEADER, SERVER_ID_HEADER, type SignedRequest } from './signed-request.ts';

export interface AwsCredentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string | undefined;
}

export interface SigningSettings {
  /** Host of the STS endpoint that will be asked. */
  host: string;
  region: string;
  /** Name of the service that the request is made for; null if it is sent to AWS itself. */
  serverId: string | null;
}

const BODY = 'Action=GetCallerIdentity&Version=2011-06-15';

/** SHA-256 and HMAC as the signer wants them. */
class Sha256 {
  readonly #hash;
  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', bytesOf(secret));
  }
  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bytesOf(data));
  }
  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }
}

function bytesOf(data: string | ArrayBuffer | ArrayBufferView): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data);
  return data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** A GetCallerIdentity request with its signature. It holds no secret but a session token, which is of no use without the key. */
export async function signIdentityRequest(credentials: AwsCredentials, settings: SigningSettings): Promise<SignedRequest> {
  const { host, region, serverId } = settings;
  const signer = new SignatureV4({
    service: 'sts',
    region,
    credentials: {
      accessKeyId: credentials.accessKeyId,
      secretAccessKey: credentials.secretAccessKey,
      ...(credentials.sessionToken === undefined ? {} : { sessionToken: credentials.sessionToken }),
    },
    sha256: Sha256,
  });
  const headers: Record<string, string> = {
    host,
    'content-type': 'application/x-www-form-urlencoded; charset=utf-8',
    ...(serverId === null ? {} : { [SERVER_ID_HEADER]: serverId, [NONCE_HEADER]: randomUUID() }),
  };
  const signed = await signer.sign({ method: 'POST', protocol: 'https:', hostname: host, path: '/', headers, body: BODY });
  return { method: 'POST', url: `https://${host}/`, headers: signed.headers, body: BODY };
}
