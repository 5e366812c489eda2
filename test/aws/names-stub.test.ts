// What moto gets wrong about Route 53, on a stub of ours behind the same SDK.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TerminalError } from '../../actors/errors.ts';
import type { AwsSettings } from '../../src/providers/aws/client.ts';
import { Route53Names, type Route53NamesOptions } from '../../src/providers/aws/names.ts';
import { Route53 } from '../../src/providers/aws/route53.ts';
import { Route53Stub, ZONE } from './stub/route53-stub.ts';

process.env['AWS_ACCESS_KEY_ID'] ??= 'test';
process.env['AWS_SECRET_ACCESS_KEY'] ??= 'test';

let stub: Route53Stub;
beforeEach(async () => {
  stub = await Route53Stub.start();
});
afterEach(() => stub.stop());

function namesOf(options: Partial<Route53NamesOptions> = {}, settings: Partial<AwsSettings> = {}): Route53Names {
  const route53 = new Route53({ region: 'us-east-2', endpoint: stub.url, cluster: 'prod', ...settings });
  return new Route53Names({ route53, zone: ZONE, cluster: 'prod', gatherMs: 5, gapMs: 1, ...options });
}

const idOf = (number: number) => `00000000-0000-7000-8000-${String(number).padStart(12, '0')}`;
const nameOf = (number: number, fields: object = {}) => ({
  reservationId: idOf(number),
  generation: 1,
  fqdn: `box-${number}.dev.test`,
  host: '10.0.0.1',
  port: 30_000 + number,
  ...fields,
});
const word = (number: number, port = 30_000 + number, cluster = 'prod') =>
  `"heritage=gpu-dev,cluster=${cluster},reservation=${idOf(number)},life=1,port=${port}"`;

describe('a name in Route 53', () => {
  it('N3: is deleted with exactly what it was created with, whatever it leads to', async () => {
    const addresses = namesOf();
    const balancer = namesOf({ target: 'alb-1.elb.amazonaws.com' });
    await addresses.publish(nameOf(1));
    await addresses.publish(nameOf(2, { host: 'ip-10-0-0-2.ec2.internal' }));
    await addresses.publish(nameOf(3, { host: '2001:db8::3' }));
    await balancer.publish(nameOf(4));
    expect(stub.names).toEqual([
      '_gpu-dev.box-1.dev.test TXT',
      '_gpu-dev.box-2.dev.test TXT',
      '_gpu-dev.box-3.dev.test TXT',
      '_gpu-dev.box-4.dev.test TXT',
      'box-1.dev.test A',
      'box-2.dev.test CNAME',
      'box-3.dev.test AAAA',
      'box-4.dev.test CNAME',
    ]);
    expect(stub.records.get('_gpu-dev.box-1.dev.test TXT')!.values).toEqual([word(1)]);
    // Each by another configuration than the one that made it.
    for (const number of [1, 2, 3]) await balancer.withdraw(nameOf(number));
    await addresses.withdraw(nameOf(4));
    expect(stub.names).toEqual([]);
  });

  it('R15 N2: is never taken from somebody else: a record of another is left as it is, and that is said', async () => {
    const names = namesOf();
    stub.put({ name: 'box-1.dev.test', type: 'CNAME', ttl: 300, values: ['elsewhere.example'] });
    stub.put({ name: 'box-2.dev.test', type: 'A', ttl: 60, values: ['10.9.9.9'] });
    stub.put({ name: '_gpu-dev.box-2.dev.test', type: 'TXT', ttl: 60, values: [word(2, 30_002, 'test')] });
    stub.put({ name: 'box-3.dev.test', type: 'A', ttl: 60, values: ['10.9.9.9'] });
    stub.put({ name: '_gpu-dev.box-3.dev.test', type: 'TXT', ttl: 60, values: [word(77)] });
    const before = JSON.stringify([...stub.records]);
    const asked = [1, 2, 3].map((number) => names.publish(nameOf(number)));
    for (const each of await Promise.allSettled(asked)) {
      expect(each).toMatchObject({ status: 'rejected', reason: expect.any(TerminalError) });
      expect(String((each as PromiseRejectedResult).reason)).toMatch(/somebody else/);
    }
    for (const number of [1, 2, 3]) await names.withdraw(nameOf(number));
    expect(JSON.stringify([...stub.records])).toBe(before);
    expect(stub.requests.some(({ what }) => what === 'change')).toBe(false);
  });

  it('N4: follows its server to another node or port, and to no other moment does it lead nowhere', async () => {
    const names = namesOf();
    await names.publish(nameOf(1));
    await names.publish(nameOf(1, { host: '10.0.0.9', port: 30_900, generation: 1 }));
    expect(stub.records.get('box-1.dev.test A')!.values).toEqual(['10.0.0.9']);
    expect(stub.records.get('_gpu-dev.box-1.dev.test TXT')!.values).toEqual([word(1, 30_900)]);
    // Old and new are exchanged in one change.
    expect(stub.requests.filter(({ what }) => what === 'change').map(({ changes }) => changes)).toEqual([2, 4]);
    await names.publish(nameOf(1, { host: '10.0.0.9', port: 30_900 }));
    expect(stub.requests.filter(({ what }) => what === 'change')).toHaveLength(2);
  });

  it('a hundred that come together are a few requests, and the account is never throttled', async () => {
    stub.perSecond = 5;
    const names = namesOf({ gatherMs: 20, gapMs: 500 });
    const all = Array.from({ length: 100 }, (_, number) => nameOf(number));
    await Promise.all(all.map((name) => names.publish(name)));
    expect(stub.records.size).toBe(200);
    await Promise.all(all.map((name) => names.withdraw(name)));
    expect(stub.records.size).toBe(0);
    expect(stub.requests.length).toBeLessThanOrEqual(10);
    expect(stub.requests.filter(({ status }) => status !== 200)).toEqual([]);
  });

  it('S27: is found in whatever page of the zone it stands', async () => {
    stub.pageSize = 3;
    for (let number = 0; number < 20; number++)
      stub.put({ name: `alien-${number}.dev.test`, type: 'A', ttl: 60, values: ['10.1.1.1'] });
    const names = namesOf();
    const ours = [1, 2, 3, 4, 5, 6].map((number) => nameOf(number));
    await Promise.all(ours.map((name) => names.publish(name)));
    await Promise.all(ours.map((name) => names.publish(name)));
    expect(stub.records.size).toBe(32);
    await Promise.all(ours.map((name) => names.withdraw(name)));
    expect(stub.records.size).toBe(20);
  });

  it('is found when strangers have put much below it', async () => {
    const names = namesOf();
    await names.publish(nameOf(1));
    for (let number = 10; number < 40; number++)
      stub.put({ name: `${number}.box-1.dev.test`, type: 'A', ttl: 60, values: ['10.1.1.1'] });
    await names.withdraw(nameOf(1));
    expect(stub.records.size).toBe(30);
  });

  it('in one batch with one that cannot be, it is made all the same', async () => {
    const names = namesOf();
    // Somebody is faster, between our look and our change.
    let late = 1;
    stub.beforeChange = () => {
      if (late-- > 0) stub.put({ name: 'box-3.dev.test', type: 'A', ttl: 60, values: ['10.9.9.9'] });
    };
    const asked = Array.from({ length: 8 }, (_, number) => names.publish(nameOf(number)));
    const ended = await Promise.allSettled(asked);
    expect(ended.map(({ status }) => status)).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((n) => (n === 3 ? 'rejected' : 'fulfilled')));
    expect(stub.records.get('box-3.dev.test A')!.values).toEqual(['10.9.9.9']);
    expect(stub.records.has('_gpu-dev.box-3.dev.test TXT')).toBe(false);
    expect(stub.records.size).toBe(15);
  });
});

describe('on a bad day of Route 53', () => {
  it.each(['throttled', 'failed', 'unanswered'] as const)('every second request %s: all ends right', async (fate) => {
    stub.fate = (number) => (number % 2 === 0 ? fate : 'done');
    const names = namesOf({}, { budgetMs: 20_000 });
    const some = [1, 2, 3].map((number) => nameOf(number));
    await Promise.all(some.map((name) => names.publish(name)));
    expect(stub.records.size).toBe(6);
    await Promise.all(some.map((name) => names.withdraw(name)));
    expect(stub.records.size).toBe(0);
  });

  it('a call that gave up while its effect was made is made good by the next', async () => {
    stub.fate = (_number, what) => (what === 'change' ? 'unanswered' : 'done');
    const names = namesOf({}, { maxAttempts: 1 });
    await expect(names.publish(nameOf(1))).rejects.toThrow(/no answer/);
    expect(stub.records.size).toBe(2);
    await names.publish(nameOf(1));
    await expect(names.withdraw(nameOf(1))).rejects.toThrow(/no answer/);
    await names.withdraw(nameOf(1));
    expect(stub.records.size).toBe(0);
  });

  it('nobody waits for ever, and those who come later are served', async () => {
    stub.fate = () => 'failed';
    const names = namesOf({}, { maxAttempts: 2, budgetMs: 1_000 });
    await expect(Promise.all([names.publish(nameOf(1)), names.publish(nameOf(2))])).rejects.toThrow(/InternalFailure/);
    stub.fate = () => 'done';
    await names.publish(nameOf(3));
    expect(stub.names).toEqual(['_gpu-dev.box-3.dev.test TXT', 'box-3.dev.test A']);
  });
});
