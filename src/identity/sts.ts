/** One question to AWS: whose credentials are these? */
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { z } from 'zod';
import { Problem } from '../errors.ts';
import type { AwsLoginSettings } from './settings.ts';

/** What AWS says. */
export interface CallerIdentity {
  account: string;
  arn: string;
}

/** A request of which it is sure what it asks. */
export interface StsRequest {
  method: 'GET' | 'POST';
  path: string;
  headers: Record<string, string>;
  body: string;
}

const PATIENCE_MS = 8_000;
/** An honest answer has less than a kilobyte. */
const LONGEST = 16 * 1024;

/** The one STS endpoint that is asked. */
export function stsOf({ region, globalEndpoint, endpoint }: AwsLoginSettings): { host: string; origin: URL } {
  const suffix = region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com';
  const origin = new URL(endpoint ?? (globalEndpoint ? 'https://sts.amazonaws.com' : `https://sts.${region}.${suffix}`));
  return { host: origin.host, origin };
}

/** The region that signatures for that endpoint bear. */
export function signingRegion({ region, globalEndpoint, endpoint }: AwsLoginSettings): string {
  return globalEndpoint && endpoint === null ? 'us-east-1' : region;
}

/**
 * Ask STS. Redirects are not followed, and an answer is taken only if it is exactly what STS answers.
 * @throws Problem: 401 if AWS refuses the credentials, 503 if it does not answer or answers something else
 */
export async function askSts(origin: URL, { method, path, headers, body }: StsRequest): Promise<CallerIdentity> {
  const { status, type, text } = await exchange(origin, method, path, { ...headers, accept: 'application/json' }, body);
  if (status === 400 || status === 401 || status === 403) {
    throw new Problem('GPU_LOGIN_REFUSED', `AWS does not take these credentials: ${reasonOf(text)}`);
  }
  if (status !== 200) throw unavailable(`it answered ${status}`);
  // XML is understood as a whole or not at all, so what it is called does not matter.
  const identity = /^application\/json(;|$)/i.test(type) ? fromJson(text) : fromXml(text);
  if (identity === null) throw unavailable('it answered something that is no identity');
  return identity;
}

function unavailable(why: string): Problem {
  return new Problem('GPU_STS_UNAVAILABLE', `AWS STS cannot be asked now: ${why}`);
}

interface Exchanged {
  status: number;
  type: string;
  text: string;
}

/** One request, one answer, both bounded. Neither ever stands in a log. */
function exchange(origin: URL, method: string, path: string, headers: Record<string, string>, body: string): Promise<Exchanged> {
  return new Promise((resolve, reject) => {
    const send = origin.protocol === 'http:' ? httpRequest : httpsRequest;
    const request = send(
      {
        hostname: origin.hostname.replace(/^\[|\]$/g, ''),
        port: origin.port === '' ? undefined : Number(origin.port),
        method,
        path,
        headers: { ...headers, 'content-length': String(Buffer.byteLength(body)) },
        agent: false,
        signal: AbortSignal.timeout(PATIENCE_MS),
      },
      (response) => {
        const parts: Buffer[] = [];
        let length = 0;
        response.on('data', (part: Buffer) => {
          length += part.length;
          if (length > LONGEST) {
            reject(unavailable('its answer is too long'));
            request.destroy();
          } else parts.push(part);
        });
        response.on('error', () => reject(unavailable('its answer broke off')));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            type: response.headers['content-type'] ?? '',
            text: Buffer.concat(parts).toString('utf8'),
          }),
        );
      },
    );
    request.on('error', () => reject(unavailable('no answer came in time')));
    request.end(body);
  });
}

const ACCOUNT = z.string().regex(/^\d{12}$/);
const ARN = z.string().max(2_048);
const JsonAnswer = z.strictObject({
  GetCallerIdentityResponse: z.strictObject({
    GetCallerIdentityResult: z.strictObject({ Account: ACCOUNT, Arn: ARN, UserId: z.string().max(256) }),
    ResponseMetadata: z.strictObject({ RequestId: z.string().max(128) }),
  }),
});

function fromJson(text: string): CallerIdentity | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  const answer = JsonAnswer.safeParse(value);
  if (!answer.success) return null;
  const { Account: account, Arn: arn } = answer.data.GetCallerIdentityResponse.GetCallerIdentityResult;
  return { account, arn };
}

const XML =
  /^(?:<\?xml version=["']1\.0["'](?: encoding=["'](?:UTF|utf)-8["'])?\s*\?>)?\s*<GetCallerIdentityResponse xmlns="https:\/\/sts\.amazonaws\.com\/doc\/2011-06-15\/">\s*<GetCallerIdentityResult>((?:\s*<(?:Arn|UserId|Account)>[^<>&]*<\/(?:Arn|UserId|Account)>){3})\s*<\/GetCallerIdentityResult>\s*<ResponseMetadata>\s*<RequestId>[^<>&]*<\/RequestId>\s*<\/ResponseMetadata>\s*<\/GetCallerIdentityResponse>\s*$/;

function fromXml(text: string): CallerIdentity | null {
  const inner = XML.exec(text)?.[1];
  if (inner === undefined) return null;
  const fields = [...inner.matchAll(/<(Arn|UserId|Account)>([^<>&]*)<\/\1>/g)].map(([, name, value]) => [name, value] as const);
  const found = new Map(fields);
  const [account, arn] = [ACCOUNT.safeParse(found.get('Account')), ARN.safeParse(found.get('Arn'))];
  return found.size === 3 && fields.length === 3 && account.success && arn.success
    ? { account: account.data, arn: arn.data }
    : null;
}

/** The code of an error of STS, if it names one: the text beside it may repeat what was sent. */
function reasonOf(text: string): string {
  return /(?:<Code>|"Code":\s*")([A-Za-z]{1,64})(?:<\/Code>|")/.exec(text)?.[1] ?? 'they are not valid';
}
