/**
 * A signed GetCallerIdentity request, as somebody sends it to show who they are: nothing but that very request passes. AWS checks the
 * signature; here it is made sure that what is forwarded can mean nothing else, goes to the right place, was made for this service, and is
 * new. What is not understood to the last character is refused: every way in which two readers could differ has been used against others.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { Problem } from '../errors.ts';

/** As it comes in the body of a login. */
export const SignedRequest = z.strictObject({
  method: z.enum(['GET', 'POST']),
  url: z.string().min(1).max(8_192),
  headers: z.record(z.string().max(64), z.string().max(8_192)),
  body: z.string().max(256).nullish(),
});
export type SignedRequest = z.infer<typeof SignedRequest>;

/** What may be forwarded. */
export interface Forwardable {
  method: 'GET' | 'POST';
  /** Path and query. */
  path: string;
  headers: Record<string, string>;
  body: string;
  /** SHA-256 of the signature: the request serves once. */
  fingerprint: string;
  /** Until when it could be sent again, in milliseconds since 1970. */
  validUntil: number;
}

/** What a request must be made for. */
export interface Expected {
  /** Host of the STS endpoint. */
  host: string;
  region: string;
  serverIds: readonly string[];
  now: number;
}

/** The header by which a request says for which service it was made. It must be signed. */
export const SERVER_ID_HEADER = 'x-gpu-dev-server-id';
/** Anything that was not signed before: without it, two requests of one second have the same signature. */
export const NONCE_HEADER = 'x-gpu-dev-nonce';

const OLDEST_MS = 15 * 60_000;
/** How far a client's clock may be ahead. */
const AHEAD_MS = 5 * 60_000;
const ACTION = { Action: 'GetCallerIdentity', Version: '2011-06-15' };
/** Headers that are needed; nothing else is forwarded. */
const HEADERS = [
  'authorization',
  'content-length',
  'content-type',
  'host',
  'x-amz-content-sha256',
  'x-amz-date',
  'x-amz-security-token',
  NONCE_HEADER,
  SERVER_ID_HEADER,
];
const SIGNED_QUERY = [
  'X-Amz-Algorithm',
  'X-Amz-Credential',
  'X-Amz-Date',
  'X-Amz-Expires',
  'X-Amz-SignedHeaders',
  'X-Amz-Signature',
];
const SECURITY_TOKEN = 'X-Amz-Security-Token';

const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=([A-Z0-9]{16,128}\/\d{8}\/[a-z0-9-]+\/sts\/aws4_request), ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/;
const CREDENTIAL = /^[A-Z0-9]{16,128}\/(\d{8})\/([a-z0-9-]+)\/sts\/aws4_request$/;

/**
 * Check a signed request to the last character.
 * @throws Problem (401) that says what is wrong with it
 */
export function forwardable(request: SignedRequest, expected: Expected): Forwardable {
  const headers = headersOf(request.headers);
  const query = queryOf(request.url, expected.host);
  if (headers['host'] !== undefined && headers['host'] !== expected.host) throw refused('it is signed for another host');

  const bySignedUrl = headers['authorization'] === undefined;
  const { credential, signedHeaders, signature } = bySignedUrl ? inQuery(query) : inHeader(headers['authorization']!);
  const names = signedHeaders.split(';');
  const date = bySignedUrl ? query.get('X-Amz-Date')! : (headers['x-amz-date'] ?? '');
  const validUntil = checkAge(date, bySignedUrl ? query.get('X-Amz-Expires')! : null, expected.now);
  checkScope(credential, date, expected.region);
  checkSignedHeaders(names, headers, bySignedUrl, expected.serverIds);
  const body = checkAction(request, query, headers, bySignedUrl);
  return {
    method: request.method,
    path: request.url.slice(`https://${expected.host}`.length),
    headers: { ...headers, host: expected.host },
    body,
    fingerprint: createHash('sha256').update(signature).digest('hex'),
    validUntil,
  };
}

function refused(reason: string): Problem {
  return new Problem('GPU_LOGIN_REFUSED', `The signed request is refused: ${reason}`);
}

/** Headers by lower-case name: known ones, each once, without anything that could end a line. */
function headersOf(given: Record<string, string>): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    const key = name.toLowerCase();
    if (!HEADERS.includes(key)) throw refused(`the header ${clip(name)} has no place in it`);
    if (Object.hasOwn(headers, key)) throw refused(`the header ${key} comes twice`);
    if (!/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(value)) throw refused(`the header ${key} has a value that is none`);
    headers[key] = value;
  }
  return headers;
}

/** The query, each name once. The URL is compared as text: no parser decides where it leads. */
function queryOf(url: string, host: string): Map<string, string> {
  const begin = `https://${host}/`;
  if (!url.startsWith(begin)) throw refused(`its URL must begin with ${begin}`);
  const rest = url.slice(begin.length);
  const query = new Map<string, string>();
  if (rest === '') return query;
  if (!/^\?[A-Za-z0-9._~%=&-]+$/.test(rest))
    throw refused('its URL has a path, a fragment, or characters that have no place in it');
  for (const pair of rest.slice(1).split('&')) {
    const [, name, value] = /^([A-Za-z0-9-]+)=([A-Za-z0-9._~%-]*)$/.exec(pair) ?? [];
    if (name === undefined || value === undefined) throw refused('its query cannot be understood');
    if (!Object.hasOwn(ACTION, name) && !SIGNED_QUERY.includes(name) && name !== SECURITY_TOKEN) {
      throw refused(`the parameter ${clip(name)} has no place in it`);
    }
    if (query.has(name)) throw refused(`the parameter ${name} comes twice`);
    query.set(name, decoded(value));
  }
  return query;
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    throw refused('its query cannot be decoded');
  }
}

function inHeader(authorization: string) {
  const [, credential, signedHeaders, signature] = AUTHORIZATION.exec(authorization) ?? [];
  if (credential === undefined || signedHeaders === undefined || signature === undefined) {
    throw refused('its Authorization is no AWS4-HMAC-SHA256 signature for sts');
  }
  return { credential, signedHeaders, signature };
}

function inQuery(query: ReadonlyMap<string, string>) {
  const missing = SIGNED_QUERY.find((name) => !query.has(name));
  if (missing !== undefined) throw refused(`it is not signed: it has neither Authorization nor ${missing}`);
  if (query.get('X-Amz-Algorithm') !== 'AWS4-HMAC-SHA256') throw refused('its signature is no AWS4-HMAC-SHA256');
  const signature = query.get('X-Amz-Signature')!;
  const signedHeaders = query.get('X-Amz-SignedHeaders')!;
  if (!/^[0-9a-f]{64}$/.test(signature)) throw refused('its signature has the wrong form');
  if (!/^[a-z0-9;-]+$/.test(signedHeaders)) throw refused('its list of signed headers has the wrong form');
  return { credential: query.get('X-Amz-Credential')!, signedHeaders, signature };
}

/** @returns until when it is valid */
function checkAge(date: string, expires: string | null, now: number): number {
  const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(date) ?? [];
  const at = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(at)) throw refused('it has no X-Amz-Date');
  if (expires !== null && !/^[1-9]\d{0,5}$/.test(expires)) throw refused('its X-Amz-Expires is no number of seconds');
  const life = Math.min(OLDEST_MS, expires === null ? OLDEST_MS : Number(expires) * 1_000);
  if (now > at + life) throw refused('it is too old; if your clock is right, sign a new one');
  if (at > now + AHEAD_MS) throw refused('it is from the future; set your clock');
  return at + life;
}

function checkScope(credential: string, date: string, region: string): void {
  const [, day, where] = CREDENTIAL.exec(credential) ?? [];
  if (day === undefined) throw refused('its credential scope is not of sts');
  if (day !== date.slice(0, 8)) throw refused('its credential scope is of another day than its date');
  if (where !== region) throw refused(`it is signed for the region ${clip(where ?? '')}, not for ${region}`);
}

function checkSignedHeaders(
  names: readonly string[],
  headers: Record<string, string>,
  bySignedUrl: boolean,
  serverIds: readonly string[],
): void {
  if (new Set(names).size !== names.length) throw refused('its list of signed headers names one twice');
  const unknown = names.find((name) => name !== 'host' && headers[name] === undefined);
  if (unknown !== undefined) throw refused(`it signs the header ${clip(unknown)} and does not send it`);
  const needed = ['host', SERVER_ID_HEADER, ...(bySignedUrl ? [] : ['x-amz-date'])];
  for (const name of [...needed, NONCE_HEADER, 'x-amz-security-token', 'x-amz-content-sha256']) {
    if ((needed.includes(name) || headers[name] !== undefined) && !names.includes(name)) {
      throw refused(`the header ${name} must be signed`);
    }
  }
  if (bySignedUrl && headers['x-amz-date'] !== undefined) throw refused('it has two dates');
  if (bySignedUrl && headers['x-amz-security-token'] !== undefined)
    throw refused('its token stands in a header and not in its URL');
  if (!serverIds.includes(headers[SERVER_ID_HEADER]!)) {
    throw refused(`it was made for ${clip(headers[SERVER_ID_HEADER]!)}, which is none of the names of this service`);
  }
}

/** @returns the body to forward */
function checkAction(
  { method, body }: SignedRequest,
  query: ReadonlyMap<string, string>,
  headers: Record<string, string>,
  bySignedUrl: boolean,
): string {
  const text = body ?? '';
  const inUrl = [...query.keys()].filter((name) => !Object.hasOwn(ACTION, name));
  if (!bySignedUrl && inUrl.length > 0) throw refused('it is signed twice');
  if (method === 'GET') {
    if (text !== '') throw refused('a GET has no body');
    if (headers['content-type'] !== undefined || (headers['content-length'] ?? '0') !== '0') throw refused('a GET has no body');
    for (const [name, value] of Object.entries(ACTION)) {
      if (query.get(name) !== value) throw refused('it asks for something else than GetCallerIdentity');
    }
    return '';
  }
  if (query.has('Action') || query.has('Version')) throw refused('a POST says what it asks for in its body only');
  const forms = ['Action=GetCallerIdentity&Version=2011-06-15', 'Version=2011-06-15&Action=GetCallerIdentity'];
  if (!forms.includes(text)) throw refused('it asks for something else than GetCallerIdentity');
  const type = headers['content-type'] ?? '';
  if (!/^application\/x-www-form-urlencoded(; ?charset=utf-8)?$/i.test(type))
    throw refused('its content type is not that of a form');
  if (headers['content-length'] !== undefined && headers['content-length'] !== String(Buffer.byteLength(text))) {
    throw refused('its Content-Length is wrong');
  }
  return text;
}

function clip(text: string): string {
  return JSON.stringify(text.slice(0, 60));
}
