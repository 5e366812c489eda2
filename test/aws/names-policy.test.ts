import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ROOT } from '../repository/files.ts';

const FILES = { 'route53.ts': 'route53', 'load-balancer.ts': 'elasticloadbalancing', 'instances.ts': 'ec2' };
/** What tags given at a creation need, though nobody calls it. */
const BESIDE = ['elasticloadbalancing:AddTags'];

it('the policy on the page of names allows exactly the calls that the code makes', () => {
  const called = Object.entries(FILES).flatMap(([file, service]) => {
    const text = readFileSync(join(ROOT, 'src/providers/aws', file), 'utf8');
    return [...text.matchAll(/new sdk\.(\w+)Command\(/g)].map(([, call]) => `${service}:${call}`);
  });
  const page = readFileSync(join(ROOT, 'docs/aws-routes.md'), 'utf8');
  const policy = JSON.parse(/```json\n([\s\S]+?)```/.exec(page)![1]!) as { Statement: { Action: string[]; Resource: string }[] };
  const allowed = policy.Statement.flatMap(({ Action }) => Action);
  expect([...new Set(allowed)].sort()).toEqual([...new Set([...called, ...BESIDE])].sort());
  // What changes anything is bound to our own: by the zone and the names in it, or by the tag of the installation.
  for (const statement of policy.Statement) {
    if (statement.Action.every((action) => /:(Describe|List|Get)/.test(action))) continue;
    expect(JSON.stringify(statement), statement.Action.join()).toMatch(
      /"Condition":.*(gpu-dev:cluster|NormalizedRecordNames|CreateAction)/,
    );
  }
});
