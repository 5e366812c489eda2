/** Access to an EKS cluster from outside: EKS is asked where it is, and each call bears a token that STS would vouch for. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { eksAccess } from '../../src/providers/aws/eks.ts';
import { createClient } from '../../src/providers/kubernetes/client.ts';
import { makeScratch, removeScratch } from '../support/scratch.ts';
import './support/ebs.ts';

const MINUTE = 60_000;
let server: Server;
let url: string;
let now: number;
/** What the cluster was asked with, and what it does not take. */
let tokens: string[];
let refuses: Set<string>;
let describes: number;
let cluster: Record<string, unknown>;

beforeEach(async () => {
  now = Date.parse('2026-01-01T00:00:00Z');
  tokens = [];
  refuses = new Set();
  describes = 0;
  // EKS, and the API server that it names.
  server = createServer((request, response) => {
    const answer = (status: number, body: unknown) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    if (request.url?.startsWith('/clusters/') === true) {
      describes += 1;
      if (request.url !== '/clusters/production')
        return answer(404, { __type: 'ResourceNotFoundException', message: 'No cluster found' });
      return answer(200, { cluster });
    }
    const token = (request.headers.authorization ?? '').replace('Bearer ', '');
    tokens.push(token);
    if (refuses.has(token)) return answer(401, { kind: 'Status', code: 401, reason: 'Unauthorized' });
    return answer(200, { kind: 'Namespace', apiVersion: 'v1', metadata: { name: 'gpu-dev', uid: 'u-1' } });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  cluster = { name: 'production', status: 'ACTIVE', endpoint: url, certificateAuthority: { data: '' } };
});
afterEach(async () => {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});

const settings = () => ({ region: 'us-east-2', endpoint: url, cluster: 'production', maxAttempts: 2 });
async function connect() {
  const access = await eksAccess(settings(), 'production', () => now);
  // Plain http is only ever this test's.
  access.config.clusters = access.config.clusters.map((each) => ({ ...each, skipTLSVerify: true }));
  const client = createClient({ access, namespace: 'gpu-dev' });
  return () => client.core.readNamespace({ name: 'gpu-dev' });
}
const urlIn = (token: string) => new URL(Buffer.from(token.slice('k8s-aws-v1.'.length), 'base64url').toString());

it('the token is a signed question to STS about who we are, for this cluster alone', async () => {
  const read = await connect();
  expect((await read()).metadata?.uid).toBe('u-1');
  const [token = ''] = tokens;
  expect(token).toMatch(/^k8s-aws-v1\.[\w-]+$/);
  const { searchParams, pathname } = urlIn(token);
  expect(pathname).toBe('/');
  expect(searchParams.get('Action')).toBe('GetCallerIdentity');
  expect(searchParams.get('X-Amz-SignedHeaders')).toBe('host;x-k8s-aws-id');
  expect(searchParams.has('x-k8s-aws-id')).toBe(false);
  expect(Number(searchParams.get('X-Amz-Expires'))).toBeLessThanOrEqual(900);
  expect(searchParams.get('X-Amz-Date')).toBe('20260101T000000Z');
  expect(searchParams.get('X-Amz-Signature')).toMatch(/^[0-9a-f]{64}$/);
});

it('a token is used again, and renewed well before it ends', async () => {
  const read = await connect();
  await Promise.all([read(), read()]);
  now += 9 * MINUTE;
  await read();
  expect(new Set(tokens).size).toBe(1);
  now += 2 * MINUTE;
  await read();
  expect(new Set(tokens).size).toBe(2);
  expect(describes).toBe(1);
});

it('a token that the cluster does not take is renewed once, and the call made again', async () => {
  const read = await connect();
  await read();
  refuses.add(tokens[0]!);
  now += 1_000;
  await read();
  expect(tokens).toHaveLength(3);
  expect(tokens[2]).not.toBe(tokens[1]);
  // Many calls that were refused together renew it together.
  refuses.add(tokens[2]!);
  now += 1_000;
  await Promise.all([read(), read(), read()]);
  expect(new Set(tokens).size).toBe(3);
});

it('one that is never taken is told as what it is, after one renewal', async () => {
  const read = await connect();
  await read();
  refuses.has = () => true;
  now += 1_000;
  await expect(read()).rejects.toMatchObject({ code: 401 });
  expect(tokens).toHaveLength(3);
});

it('a cluster that EKS does not know, or that is not up yet, is told by its name', async () => {
  await expect(eksAccess(settings(), 'nowhere')).rejects.toThrow(/the EKS cluster nowhere: 404 ResourceNotFoundException/);
  cluster = { name: 'production', status: 'CREATING' };
  await expect(eksAccess(settings(), 'production')).rejects.toThrow(/production: 200 CREATING .*no endpoint yet/);
});

it('in a pod the role of its service account is taken on: by the token that is mounted, and no key', async () => {
  const asked: URLSearchParams[] = [];
  const sts = createServer((request, response) => {
    let body = '';
    request.on('data', (part: Buffer) => (body += part.toString()));
    request.on('end', () => {
      asked.push(new URLSearchParams(body));
      const expires = new Date(Date.now() + 3_600_000).toISOString();
      response.writeHead(200, { 'content-type': 'text/xml' }).end(
        `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAOFTHEROLE</AccessKeyId>
        <SecretAccessKey>secret</SecretAccessKey><SessionToken>session</SessionToken><Expiration>${expires}</Expiration></Credentials>
        </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
      );
    });
  });
  sts.listen(0, '127.0.0.1');
  await once(sts, 'listening');
  const folder = makeScratch('irsa');
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, 'a-token-of-the-service-account');
  const role = 'arn:aws:iam::123456789012:role/gpu-dev';
  const variables = {
    AWS_ACCESS_KEY_ID: undefined,
    AWS_SECRET_ACCESS_KEY: undefined,
    AWS_ROLE_ARN: role,
    AWS_WEB_IDENTITY_TOKEN_FILE: tokenFile,
    AWS_REGION: 'us-east-2',
    AWS_ENDPOINT_URL_STS: `http://127.0.0.1:${(sts.address() as AddressInfo).port}`,
  };
  for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value);
  try {
    await (await connect())();
  } finally {
    vi.unstubAllEnvs();
    sts.closeAllConnections();
    sts.close();
    await removeScratch(folder);
  }
  expect(asked.length).toBeGreaterThan(0);
  for (const each of asked)
    expect(Object.fromEntries(each)).toMatchObject({
      Action: 'AssumeRoleWithWebIdentity',
      RoleArn: role,
      WebIdentityToken: 'a-token-of-the-service-account',
    });
  expect(urlIn(tokens[0]!).searchParams.get('X-Amz-Credential')).toMatch(/^ASIAOFTHEROLE\//);
});
