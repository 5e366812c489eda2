import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { LABEL } from '../../src/providers/kubernetes/objects.ts';
import { RIGHTS } from '../../src/providers/kubernetes/permissions.ts';
import { type Manifest, problemsOf, readManifests, strayFiles } from './manifests.ts';

const manifests = readManifests();
const of = (kind: string): Manifest[] => manifests.filter((each) => each.kind === kind);
const named = (kind: string, name: string): Manifest => of(kind).find((each) => each.metadata.name === name);
const deployments = of('Deployment');
const dockerfile = readFileSync(fileURLToPath(new URL('../../Dockerfile', import.meta.url)), 'utf8');

it('every field of every manifest exists in a current Kubernetes, with the right type', () => {
  expect(strayFiles()).toEqual([]);
  expect(manifests.flatMap(problemsOf)).toEqual([]);
  const spoiled = structuredClone(deployments[0]);
  spoiled.spec.template.spec.containers[0].resource = {};
  spoiled.spec.replicas = '2';
  expect(problemsOf(spoiled)).toHaveLength(2);
});

it('the Deployments, their labels, the Service and the Secret bear the names that operators know', () => {
  expect(deployments.map((each) => each.metadata.name)).toEqual(['api-service', 'reservation-processor']);
  for (const { metadata, spec } of deployments) {
    expect(metadata).toMatchObject({ namespace: 'gpu-controlplane', labels: { app: metadata.name } });
    expect(spec.selector.matchLabels).toEqual({ app: metadata.name });
    expect(spec.template.metadata.labels).toMatchObject({ app: metadata.name });
    expect(spec.template.spec.serviceAccountName).toBe(metadata.name);
    const [password] = spec.template.spec.containers[0].env;
    expect(password).toMatchObject({ name: 'POSTGRES_PASSWORD', valueFrom: { secretKeyRef: { name: 'postgres-credentials' } } });
  }
  expect(named('Service', 'api-service-public').spec.selector).toEqual({ app: 'api-service' });
});

it('each Deployment has two replicas, replaces none before the next is ready, and keeps one through a drain of its node', () => {
  for (const { metadata, spec } of deployments) {
    expect(spec.replicas).toBe(2);
    expect(spec.strategy.rollingUpdate).toEqual({ maxUnavailable: 0, maxSurge: 1 });
    expect(named('PodDisruptionBudget', metadata.name).spec).toEqual({
      minAvailable: 1,
      selector: { matchLabels: { app: metadata.name } },
    });
    const { containers, terminationGracePeriodSeconds } = spec.template.spec;
    const pause = Number(containers[0].lifecycle.preStop.exec.command[1]);
    const drain = Number(named('ConfigMap', 'gpu-dev-settings').data.DRAIN_SECONDS);
    expect(pause + drain).toBeLessThan(terminationGracePeriodSeconds);
    for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'])
      expect(containers[0][probe].httpGet.port).toBe('http');
    expect(containers[0].resources).toMatchObject({
      requests: { cpu: expect.anything() },
      limits: { memory: expect.anything() },
    });
  }
});

it('containers run as nobody in particular, on a root that they cannot write, with no capability', () => {
  for (const { spec } of deployments) {
    const { securityContext, containers } = spec.template.spec;
    expect(securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 10001, seccompProfile: { type: 'RuntimeDefault' } });
    expect(containers[0].securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
  }
  expect(dockerfile).toMatch(/^USER 10001:10001$/m);
  expect(dockerfile).toMatch(/^ARG NODE_IMAGE=node:24-\S+-slim$/m);
});

it('the settings are ones that the service reads, and the arguments are roles of it', () => {
  const { data } = named('ConfigMap', 'gpu-dev-settings');
  const schema = readFileSync(fileURLToPath(new URL('../../src/config.ts', import.meta.url)), 'utf8');
  for (const name of Object.keys(data)) expect(schema).toMatch(new RegExp(`^ {2}${name}:`, 'm'));
  for (const { spec } of deployments) {
    const [role] = spec.template.spec.containers[0].args;
    const config = readConfig({ ...data, GPU_DEV_ROLE: role, KUBERNETES_SERVICE_HOST: '10.0.0.1' });
    expect(config).toMatchObject({ role, listen: '0.0.0.0', port: spec.template.spec.containers[0].ports[0].containerPort });
  }
});

it('the rights granted are exactly those that the service checks at its start', () => {
  const granted = (kind: string) =>
    named(kind, 'gpu-dev-processor').rules.flatMap((rule: Manifest) =>
      rule.resources.map(
        (resource: string) => `${rule.apiGroups[0]}/${resource} ${rule.resourceNames?.join() ?? ''}: ${rule.verbs}`,
      ),
    );
  const needed = (scope: string) =>
    RIGHTS.filter((right) => right.scope === scope).map(
      ({ group, resource, verbs, object }) => `${group}/${resource} ${object?.('gpu-dev') ?? ''}: ${verbs}`,
    );
  expect(granted('ClusterRole').sort()).toEqual(needed('cluster').sort());
  expect(granted('Role').sort()).toEqual(needed('namespace').sort());
  expect(JSON.stringify(manifests)).not.toContain('"*"');
  expect(named('ServiceAccount', 'api-service').automountServiceAccountToken).toBe(false);
  for (const binding of [...of('RoleBinding'), ...of('ClusterRoleBinding')]) {
    expect(binding.subjects).toEqual([{ kind: 'ServiceAccount', name: 'reservation-processor', namespace: 'gpu-controlplane' }]);
  }
});

it('network policies stand before every pod of the control plane, and dev servers reach none of it', () => {
  const policies = of('NetworkPolicy').filter((each) => each.metadata.namespace === 'gpu-controlplane');
  const [deny] = policies;
  expect(deny.spec).toMatchObject({ policyTypes: ['Ingress', 'Egress'] });
  expect(deny.spec.ingress).toBeUndefined();
  for (const { spec } of deployments) expect(spec.template.metadata.labels).toMatchObject(deny.spec.podSelector.matchLabels);
  const elsewhere = { matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: ['gpu-dev'] }] };
  for (const rule of policies.flatMap((policy) => policy.spec.ingress ?? [])) {
    const [from] = rule.from;
    expect(rule.from).toHaveLength(1);
    // Builds run strangers' code: they reach the port that has their contexts, and no request to the API.
    if (rule.ports[0].port === 'contexts')
      expect(from.podSelector).toEqual({ matchExpressions: [{ key: LABEL.build, operator: 'Exists' }] });
    else expect(from).toEqual({ namespaceSelector: elsewhere });
  }
  expect(named('Service', 'build-contexts').spec.ports).toEqual([{ name: 'contexts', port: 80, targetPort: 'contexts' }]);
  const { builds, buildContextPort } = readConfig({ ...named('ConfigMap', 'gpu-dev-settings').data, POSTGRES_HOST: 'db' });
  expect(new URL(builds.contextUrl).host).toBe('build-contexts.gpu-controlplane.svc.cluster.local');
  const [api] = deployments;
  expect(api.spec.template.spec.containers[0].ports).toContainEqual({ name: 'contexts', containerPort: buildContextPort });
  const egress = named('NetworkPolicy', 'gpu-dev-builds').spec.egress;
  expect(egress[1].ports).toEqual([{ port: buildContextPort, protocol: 'TCP' }]);
});

it('nobody takes the place of a dev server, and the settings name its priority', () => {
  const { data } = named('ConfigMap', 'gpu-dev-settings');
  expect(named('PriorityClass', data.GPU_DEV_PRIORITY_CLASS)).toMatchObject({ preemptionPolicy: 'Never' });
  for (const { spec } of deployments) {
    expect(named('PriorityClass', spec.template.spec.priorityClassName).value).toBeGreaterThan(100_000);
  }
});
