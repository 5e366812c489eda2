/** What the service may do in AWS: tried at the start without doing it, named if it is missing, and exactly what the policy allows. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { DISKS_POLICY, MORE_POLICY, policyDocument } from '../../src/providers/aws/policy.ts';
import { EBS_RIGHTS, findMissingEc2Rights } from '../../src/providers/aws/rights.ts';
import { problemsOf } from '../deploy/manifests.ts';
import { Ec2Stub } from './stub/ec2-stub.ts';
import { CLUSTER, ec2At, GP3 } from './support/ebs.ts';

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const FOLDER = at('src/providers/aws');
const sources = readdirSync(FOLDER)
  .filter((file) => file.endsWith('.ts'))
  .map((file) => ({ file, text: readFileSync(`${FOLDER}/${file}`, 'utf8') }));

describe('a start', () => {
  let stub: Ec2Stub;
  beforeEach(async () => {
    stub = await Ec2Stub.start();
    const tags = new Map([['gpu-dev:cluster', CLUSTER]]);
    const asked = { zone: 'us-east-2a', sizeGb: 1, snapshotId: null, type: 'gp3', encrypted: true, token: '', tags };
    stub.state.createSnapshot(stub.state.createVolume(asked).id, tags);
  });
  afterEach(() => stub.stop());

  it('T16: tries each call that disks need, changes nothing, and finds nothing missing where all is allowed', async () => {
    expect(await findMissingEc2Rights(ec2At(stub.url), GP3)).toEqual([]);
    expect(stub.state.made).toEqual({ volumes: 1, snapshots: 1 });
    expect([stub.state.volumes.size, stub.state.snapshots.size]).toEqual([1, 1]);
    const needed = DISKS_POLICY.flatMap(({ Action }) => Action.map((each) => each.replace('ec2:', '')));
    expect([...new Set(stub.calls)].sort()).toEqual([...new Set(needed)].sort());
  });

  it('names every right that is missing', async () => {
    for (const action of ['CreateVolume', 'DeleteSnapshot', 'DetachVolume']) stub.denied.add(action);
    const found = await findMissingEc2Rights(ec2At(stub.url), GP3);
    expect(found.map((words) => words.split(' ')[2])).toEqual(['ec2:CreateVolume', 'ec2:DetachVolume', 'ec2:DeleteSnapshot']);
    stub.denied.add('DescribeVolumes');
    expect((await findMissingEc2Rights(ec2At(stub.url), GP3))[0]).toMatch(/May not ec2:DescribeVolumes/);
  });

  it('concludes nothing from an EC2 that does not say', async () => {
    stub.fault = () => 'fail';
    await expect(findMissingEc2Rights(ec2At(stub.url, { maxAttempts: 1 }), GP3)).rejects.toThrow(/500/);
  });
});

describe('the policy', () => {
  it('allows exactly the calls to EC2 that the code makes', () => {
    const called = sources.filter(({ text }) => /client-ec2|Ec2\b/.test(text) && !/client-(?!ec2)[a-z]/.test(text));
    const commands = called.flatMap(({ text }) =>
      [...text.matchAll(/new sdk\.(\w+)Command\(/g)].map(([, name]) => `ec2:${name}`),
    );
    expect([...new Set(DISKS_POLICY.flatMap(({ Action }) => Action))].sort()).toEqual([...new Set(commands)].sort());
  });

  it('allows every call that is made for file systems, images and the cluster', () => {
    const services = { 'efs.ts': 'elasticfilesystem', 'ecr.ts': 'ecr', 'eks.ts': 'eks', 'contents-bucket.ts': 's3' };
    const allowed = MORE_POLICY.flatMap(({ Action }) => Action);
    for (const [file, service] of Object.entries(services)) {
      const { text } = sources.find((each) => each.file === file)!;
      const calls = [...text.matchAll(/new sdk\.(\w+)Command\(/g)].map(
        // The one call that has another name than its right.
        ([, name]) => `${service}:${name === 'ListObjectsV2' ? 'ListBucket' : name}`,
      );
      expect(calls.length).toBeGreaterThan(0);
      expect(calls.filter((call) => !allowed.includes(call))).toEqual([]);
    }
  });

  it('T16 D32: changes and removes nothing that does not bear our tag', () => {
    for (const { Action, Condition, Sid } of DISKS_POLICY) {
      const changes = Action.some((each) => !/:(Describe|List|Get)/.test(each));
      if (changes && Sid !== 'DetachFromNodes') expect(JSON.stringify(Condition)).toMatch(/gpu-dev:cluster|ec2:CreateAction/);
    }
  });

  it('is the one that docs/aws.md shows', () => {
    const page = readFileSync(at('docs/aws.md'), 'utf8');
    for (const statements of [DISKS_POLICY, MORE_POLICY]) expect(page).toContain(policyDocument(statements));
  });

  it('rights on the cluster are granted as they are checked', () => {
    const manifests = parseAllDocuments(readFileSync(at('deploy/aws/rights.yaml'), 'utf8')).map((each) => each.toJS());
    expect(manifests.flatMap(problemsOf)).toEqual([]);
    const granted = manifests[0].rules.map(
      (rule: { apiGroups: string[]; resources: string[]; verbs: string[] }) =>
        `${rule.apiGroups[0]}/${rule.resources[0]}: ${rule.verbs}`,
    );
    expect(granted).toEqual(EBS_RIGHTS.map(({ group, resource, verbs }) => `${group}/${resource}: ${verbs}`));
  });
});

it('whoever runs without AWS loads nothing of its SDK', () => {
  for (const { file, text } of sources) {
    const loaded = [...text.matchAll(/^import (?!type )[^;]*from '(@aws-sdk|@smithy)/gm)];
    expect({ file, loaded: loaded.map(([line]) => line) }).toEqual({ file, loaded: [] });
  }
});
