import { describe, expect, it } from 'vitest';
import { signIdentityRequest } from '../../../src/identity/sign.ts';
import { type Expected, forwardable, type SignedRequest } from '../../../src/identity/signed-request.ts';

const HOST = 'sts.us-east-1.amazonaws.com';
const ID = 'gpu-dev.example.com';
const KEYS = { accessKeyId: 'ASIAEXAMPLEEXAMPLE12', secretAccessKey: 's'.repeat(40), sessionToken: 't'.repeat(120) };
const ACTION = 'Action=GetCallerIdentity&Version=2011-06-15';
const good = await signIdentityRequest(KEYS, { host: HOST, region: 'us-east-1', serverId: ID });
const expected = (more: Partial<Expected> = {}): Expected => ({
  host: HOST,
  region: 'us-east-1',
  serverIds: [ID],
  now: Date.now(),
  ...more,
});
const headers = (more: Record<string, string | undefined>): SignedRequest => {
  const changed = { ...good.headers, ...more };
  return {
    ...good,
    headers: Object.fromEntries(Object.entries(changed).filter((one): one is [string, string] => one[1] !== undefined)),
  };
};
const authorization = (from: RegExp, to: string) => headers({ authorization: good.headers['authorization']!.replace(from, to) });

/** A request that is signed by its URL, as `presign` makes them. */
function presigned(change: (query: URLSearchParams) => void = () => {}, more: Partial<SignedRequest> = {}): SignedRequest {
  const date = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
  const query = new URLSearchParams({
    Action: 'GetCallerIdentity',
    Version: '2011-06-15',
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `ASIAEXAMPLEEXAMPLE12/${date.slice(0, 8)}/us-east-1/sts/aws4_request`,
    'X-Amz-Date': date,
    'X-Amz-Expires': '60',
    'X-Amz-Security-Token': 'a/b+c=',
    'X-Amz-SignedHeaders': 'host;x-gpu-dev-server-id',
    'X-Amz-Signature': 'ab'.repeat(32),
  });
  change(query);
  return { method: 'GET', url: `https://${HOST}/?${query}`, headers: { host: HOST, 'x-gpu-dev-server-id': ID }, ...more };
}

describe('a signed request', () => {
  it('is forwarded as it is, to the pinned host, with the headers that are needed and no others', () => {
    const passed = forwardable(good, expected());
    expect(passed).toMatchObject({ method: 'POST', path: '/', body: ACTION });
    expect(passed.headers).toEqual({ ...good.headers, host: HOST });
    expect(JSON.stringify(passed)).not.toContain(KEYS.secretAccessKey);
    const byUrl = presigned();
    expect(forwardable(byUrl, expected())).toMatchObject({
      method: 'GET',
      path: byUrl.url.slice(`https://${HOST}`.length),
      body: '',
    });
  });

  it('has the same fingerprint each time, and another than the next', async () => {
    const next = await signIdentityRequest(KEYS, { host: HOST, region: 'us-east-1', serverId: ID });
    expect(forwardable(good, expected()).fingerprint).toBe(forwardable(good, expected()).fingerprint);
    expect(forwardable(next, expected()).fingerprint).not.toBe(forwardable(good, expected()).fingerprint);
  });

  it('is good for 15 minutes, or as long as its X-Amz-Expires says if that is shorter', () => {
    const at = (minutes: number) => expected({ now: Date.now() + minutes * 60_000 });
    expect(forwardable(good, at(14)).method).toBe('POST');
    expect(() => forwardable(good, at(16))).toThrow(/too old/);
    expect(() => forwardable(good, at(-6))).toThrow(/future/);
    expect(() => forwardable(presigned(), at(2))).toThrow(/too old/);
    expect(() =>
      forwardable(
        presigned((query) => query.set('X-Amz-Expires', '604800')),
        at(16),
      ),
    ).toThrow(/too old/);
  });

  const wrong: [string, SignedRequest, RegExp][] = [
    ['for another host', { ...good, url: 'https://sts.evil.example/' }, /URL must begin/],
    ['for a host that only begins so', { ...good, url: `https://${HOST}.evil.example/` }, /URL must begin/],
    ['with a user in its URL', { ...good, url: `https://${HOST}@evil.example/` }, /URL must begin/],
    ['with another port', { ...good, url: `https://${HOST}:444/` }, /URL must begin/],
    ['over plain http', { ...good, url: `http://${HOST}/` }, /URL must begin/],
    ['with a path', { ...good, url: `https://${HOST}/x` }, /a path/],
    ['with a path that leads back', { ...good, url: `https://${HOST}/../` }, /a path/],
    ['with a fragment', { ...good, url: `https://${HOST}/#x` }, /a fragment/],
    ['with a backslash', { ...good, url: `https://${HOST}/\\evil.example` }, /a path/],
    ['with a line break in its URL', { ...good, url: `https://${HOST}/?Action=a\r\nHost: x` }, /characters/],
    ['signed for another host', headers({ host: 'sts.eu-west-1.amazonaws.com' }), /another host/],
    ['signed for another region', authorization(/us-east-1/, 'eu-west-1'), /region "eu-west-1"/],
    ['signed for another service', authorization(/\/sts\//, '/iam/'), /no AWS4-HMAC-SHA256 signature for sts/],
    ['signed on another day', authorization(/\/\d{8}\//, '/20200101/'), /another day/],
    ['that signs no server id', authorization(/;x-gpu-dev-server-id/, ''), /x-gpu-dev-server-id must be signed/],
    ['that signs no host', authorization(/host;/, ''), /host must be signed/],
    ['that signs no date', authorization(/x-amz-date;/, ''), /x-amz-date must be signed/],
    ['that signs no token', authorization(/;?x-amz-security-token;?/, ';'), /must be signed/],
    ['that signs one header twice', authorization(/host;/, 'host;host;'), /names one twice/],
    ['that signs what it does not send', authorization(/host;/, 'content-length;host;'), /does not send it/],
    ['made for another service of ours', headers({ 'x-gpu-dev-server-id': 'other.example.com' }), /none of the names/],
    ['without a server id', headers({ 'x-gpu-dev-server-id': undefined }), /does not send it|must be signed/],
    ['with a header that is not needed', headers({ 'x-forwarded-host': 'evil.example' }), /has no place/],
    ['with a transfer encoding', headers({ 'transfer-encoding': 'chunked' }), /has no place/],
    ['with a wish for another form of answer', headers({ accept: 'application/json' }), /has no place/],
    ['with one header in two spellings', headers({ 'X-Amz-Date': good.headers['x-amz-date']! }), /comes twice/],
    ['with a line break in a header', headers({ 'x-amz-date': '20260101T000000Z\r\nhost: x' }), /value that is none/],
    ['with two signatures', { ...good, url: presigned().url }, /signed twice|in its body only/],
    ['with a foreign content type', headers({ 'content-type': 'application/json' }), /content type/],
    ['with a wrong length', headers({ 'content-length': '7' }), /Content-Length/],
    ['that asks for something else', { ...good, body: 'Action=GetSessionToken&Version=2011-06-15' }, /something else/],
    ['that asks for two things', { ...good, body: `${ACTION}&Action=GetSessionToken` }, /something else/],
    ['that asks in another spelling', { ...good, body: 'action=GetCallerIdentity&Version=2011-06-15' }, /something else/],
    [
      'that asks in its URL what its body does not',
      { ...good, url: `https://${HOST}/?Action=GetSessionToken` },
      /in its body only/,
    ],
    ['without a body', { ...good, body: null }, /something else/],
    ['without any signature', headers({ authorization: undefined }), /not signed/],
    ['by URL with a body', presigned(() => {}, { body: ACTION }), /no body/],
    ['by URL with one parameter twice', { ...presigned(), url: `${presigned().url}&Action=GetCallerIdentity` }, /comes twice/],
    [
      'by URL with one parameter in another spelling',
      presigned((query) => query.set('x-amz-signedheaders', 'host')),
      /has no place/,
    ],
    [
      'by URL with an encoded name',
      { ...presigned(), url: `${presigned().url}&%41ction=GetCallerIdentity` },
      /cannot be understood/,
    ],
    ['by URL with a parameter that is not needed', presigned((query) => query.set('DurationSeconds', '1')), /has no place/],
    ['by URL that asks for something else', presigned((query) => query.set('Action', 'AssumeRole')), /something else/],
    ['by URL without a server id', presigned((query) => query.set('X-Amz-SignedHeaders', 'host')), /must be signed/],
    [
      'by URL that does not say how long it is good',
      presigned((query) => query.delete('X-Amz-Expires')),
      /neither Authorization nor X-Amz-Expires/,
    ],
    [
      'by URL with two dates',
      presigned(() => {}, { headers: { host: HOST, 'x-gpu-dev-server-id': ID, 'x-amz-date': '20260101T000000Z' } }),
      /two dates/,
    ],
    ['by URL that is good for no number', presigned((query) => query.set('X-Amz-Expires', '1e9')), /no number/],
  ];
  it.each(wrong)('%s is refused', (_what, request, why) => {
    expect(() => forwardable(request, expected())).toThrow(why);
  });
});
