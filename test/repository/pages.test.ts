import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { PROBLEMS } from '../../actors/problem.ts';
import { CRASH_POINTS } from '../../actors/kernel/crash-points.ts';
import { readConfig } from '../../src/config.ts';
import { projectFiles, ROOT } from './files.ts';

const page = readFileSync(join(ROOT, 'docs/configuration.md'), 'utf8');
/** Variables of the tables with their stated default, by name. */
const told = new Map([...page.matchAll(/^\| `([A-Z_]+)` \| ([^|]+) \|/gm)].map(([, name, second]) => [name!, second!.trim()]));
/** Variables of the service's own schema. */
const read = [...readFileSync(join(ROOT, 'src/config.ts'), 'utf8').matchAll(/^ {2}([A-Z][A-Z_]+):/gm)].map(([, name]) => name!);

it('the page of the settings tells of every variable that the service reads, and of none that nobody reads', () => {
  expect(read.length).toBeGreaterThan(20);
  expect(read.filter((name) => !told.has(name))).toEqual([]);
  const used = new Set(
    projectFiles('.ts', '.js')
      .filter(({ path }) => /^(src|actors|persistence|bin)\//.test(path))
      .flatMap(({ text }) => [...text.matchAll(/\b[A-Z][A-Z_]{3,}\b/g)].map(([name]) => name)),
  );
  expect([...told.keys()].filter((name) => !used.has(name))).toEqual([]);
});

it('no variable stands in two places, where the later one would silently win', () => {
  const places = [
    'src/config.ts',
    'src/identity/configuration.ts',
    'src/providers/aws/configuration.ts',
    'src/providers/aws/name-settings.ts',
  ];
  const names = places.flatMap((path) =>
    [...readFileSync(join(ROOT, path), 'utf8').matchAll(/^ {2}([A-Z][A-Z0-9_]+):/gm)].map(([, name]) => name!),
  );
  expect(names).toContain('AWS_ENDPOINT_URL');
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  // Login and disks ask the same place, by the stricter rule.
  const refused = () => readConfig({ POSTGRES_HOST: 'db', AWS_ENDPOINT_URL: 'http://moto.example/path' });
  expect(refused).toThrow(/AWS_ENDPOINT_URL: must be a scheme, a host and no more/);
});

it('the defaults it tells are the true ones', () => {
  const config = readConfig({ POSTGRES_HOST: 'db' });
  const { database, queues, retention, snapshotRetention } = config;
  const actual: Record<string, string | number> = {
    POSTGRES_PORT: database.port,
    POSTGRES_USER: database.user,
    POSTGRES_DB: database.database,
    DB_POOL_MAX: database.maxConnections,
    DB_ACQUIRE_TIMEOUT_MS: database.acquireTimeoutMs,
    QUEUE_NAME: queues.reservations,
    DISK_QUEUE_NAME: queues.disks,
    POLL_INTERVAL_SECONDS: queues.pollMs / 1_000,
    VISIBILITY_TIMEOUT_SECONDS: queues.visibilitySeconds,
    BATCH_SIZE: queues.batchSize,
    CLUSTER: config.cluster,
    GPU_DEV_NAMESPACE: config.namespace,
    GPU_DEV_ROLE: config.role,
    GPU_DEV_SNAPSHOTS: config.snapshots,
    GPU_DEV_COPY_IMAGE: config.copyImage,
    GITHUB_URL: config.githubUrl,
    PORT: config.port,
    GPU_DEV_HOME: config.home,
    TIME_SCALE: config.timeScale,
    LOG_LEVEL: config.logLevel,
    RATE_LIMIT_PER_KEY: config.rates.perKey,
    RATE_LIMIT_PER_ADDRESS: config.rates.perAddress,
    DRAIN_SECONDS: config.drainMs / 1_000,
    BUILDKIT_REGISTRY_URL: config.builds.repository,
    BUILDKIT_IMAGE: config.builds.builderImage,
    BUILDKIT_ROOTLESS: String(config.builds.rootless),
    BUILD_CONTEXT_URL: config.builds.contextUrl,
    RECONCILE_INTERVAL_SECONDS: config.reconcile.everyMs / 1_000,
    RECONCILE_GRACE_SECONDS: config.reconcile.graceMs / 1_000,
    RETENTION_RESERVATIONS_DAYS: retention.reservationsDays,
    RETENTION_HISTORY_DAYS: retention.historyDays,
    RETENTION_EFFECTS_DAYS: retention.effectsDays,
    RETENTION_DEAD_LETTERS_DAYS: retention.deadLettersDays,
    GPU_DEV_INSPECTOR: String(config.inspector !== null),
    GPU_DEV_INSPECTOR_URL: readConfig({ POSTGRES_HOST: 'db', GPU_DEV_INSPECTOR: 'true' }).inspector!.url,
    SNAPSHOT_KEEP_COUNT: snapshotRetention.keepCount,
    SNAPSHOT_KEEP_DAYS: snapshotRetention.keepDays,
  };
  for (const [name, value] of Object.entries(actual)) expect(`${name} ${told.get(name)}`).toBe(`${name} \`${value}\``);
  const noDefault = [
    'POSTGRES_HOST',
    'POSTGRES_PASSWORD',
    'KUBECONFIG',
    'BUILDKIT_REGISTRY_SECRET',
    'BUILD_CONTEXT_PORT',
    'GPU_DEV_LISTEN',
    'GPU_DEV_CONTAINER_IMAGE',
  ];
  noDefault.push('GPU_DEV_PRIORITY_CLASS', 'GPU_DEV_SHARED_VOLUME', 'GPU_DEV_STORAGE_CLASS');
  noDefault.push('GPU_DEV_ACCESS_FROM', 'GPU_DEV_EGRESS_ALLOW', 'GPU_DEV_EGRESS_DENY');
  expect(read.filter((name) => !(name in actual) && !noDefault.includes(name))).toEqual([]);
});

it('the page for operators tells of every code that can stand in a dead letter', () => {
  const operations = readFileSync(join(ROOT, 'docs/operations.md'), 'utf8');
  const codes = new Set(
    projectFiles('.ts')
      .filter(({ path }) => path.startsWith('actors/') && path !== 'actors/problem.ts')
      .flatMap(({ text }) => [...text.matchAll(/'(GPU_[A-Z_]+)'/g)].map(([, code]) => code!))
      .filter((code) => code in PROBLEMS),
  );
  expect(codes.size).toBeGreaterThan(15);
  expect([...codes].filter((code) => !operations.includes(`\`${code}\``))).toEqual([]);
});

it('the page of the database tells of every table', () => {
  const database = readFileSync(join(ROOT, 'docs/database.md'), 'utf8');
  const tables = projectFiles('.sql').flatMap(({ text }) => [...text.matchAll(/^create table (\w+)/gm)].map(([, name]) => name!));
  expect(tables.length).toBeGreaterThan(15);
  expect(tables.filter((table) => !database.includes(`\`${table}\``))).toEqual([]);
});

it('every crash point has a reason told beside it', () => {
  const { text } = projectFiles('.ts').find(({ path }) => path === 'actors/kernel/crash-points.ts')!;
  for (const point of CRASH_POINTS) expect(text).toContain(` * - ${point}: `);
});
