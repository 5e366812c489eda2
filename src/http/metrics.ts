/** GET /metrics: numbers for Prometheus. Each server has a registry of its own. */
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { countActors, readTotals } from '../../persistence/insight.ts';
import { countFindings } from '../../persistence/reality.ts';
import type { HttpDeps, Server } from './deps.ts';

export function metricRoutes(app: Server, deps: HttpDeps, streams: { open: () => number }): void {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const requests = requestHistogram(registry);
  const refresh = gauges(registry, deps);
  const open = new Gauge({ name: 'gpu_dev_streams', help: 'Streams of events that are open here.', registers: [registry] });

  app.addHook('onResponse', async (request, reply) => {
    // How long somebody listened says nothing of how long an answer took.
    if (String(reply.getHeader('content-type')).startsWith('text/event-stream')) return;
    // The route's pattern, never the path: ids would make a series each.
    requests.observe(
      { method: request.method, route: request.routeOptions.url ?? 'none', status: String(reply.statusCode) },
      reply.elapsedTime / 1_000,
    );
  });

  app.get('/metrics', { config: { access: 'public' }, schema: { hide: true } }, async (_request, reply) => {
    open.set(streams.open());
    await refresh();
    return reply.header('content-type', registry.contentType).send(await registry.metrics());
  });
}

function requestHistogram(registry: Registry) {
  return new Histogram({
    name: 'gpu_dev_http_request_duration_seconds',
    help: 'Time to answer HTTP requests.',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
    registers: [registry],
  });
}

/** The gauges of this service, and what brings them up to date. A database that does not answer leaves `gpu_dev_database_up` at 0. */
function gauges(registry: Registry, deps: HttpDeps): () => Promise<void> {
  const registers = [registry];
  const gauge = (name: string, help: string) => new Gauge({ name: `gpu_dev_${name}`, help, registers });
  const labelled = <L extends string>(name: string, help: string, ...labelNames: L[]) =>
    new Gauge({ name: `gpu_dev_${name}`, help, labelNames, registers });

  const kernel = labelled('kernel', 'Counters of this kernel since its start, and its present work.', 'what');
  const connections = labelled('database_connections', 'Connections of the pool.', 'state');
  const up = gauge('database_up', '1 if the database answered this scrape.');
  const actors = labelled('actors', 'Actors by kind and top-level state.', 'kind', 'state');
  const mailbox = gauge('mailbox_depth', 'Messages that wait for their turn.');
  const held = gauge('mailbox_held', 'Messages held for actors that do not exist yet or are quarantined.');
  const oldest = gauge('mailbox_oldest_seconds', 'Age of the oldest waiting message.');
  const effects = gauge('effects_pending', 'Effects that wait or run.');
  const letters = gauge('dead_letters_open', 'Dead letters that nobody has resolved.');
  const findings = labelled('reality_findings', 'Open differences between database and cluster.', 'kind', 'verdict');
  const quarantined = gauge('actors_quarantined', 'Actors whose snapshot cannot be revived.');
  const struggling = gauge('effects_struggling', 'Effects that wait for another try after one that failed.');
  const troubled = gauge('disks_troubled', 'Disks that tell of a problem.');
  const maintained = gauge('maintenance_in_force', 'GPU types under maintenance.');
  const drained = gauge('nodes_drained', 'Nodes on which nothing new is given.');
  const late = gauge('deadline_oldest_due_seconds', 'How long the oldest due deadline has been waiting.');
  const tracker = gauge('tracker_age_seconds', 'Age of what the tracker knows of the cluster; NaN before its first look.');

  return async () => {
    for (const [what, value] of Object.entries(deps.kernel.stats())) kernel.set({ what }, Number(value));
    const { db } = deps;
    for (const [state, value] of Object.entries(db.stats())) connections.set({ state }, Number(value));
    const age = deps.trackerAgeMs();
    tracker.set(age === null ? Number.NaN : age / 1_000);
    try {
      const [totals, counts, found] = await Promise.all([readTotals(db), countActors(db), countFindings(db)]);
      mailbox.set(totals.mailbox);
      held.set(totals.mailboxHeld);
      oldest.set(totals.oldestMailSeconds);
      effects.set(totals.effectsPending);
      letters.set(totals.deadLettersOpen);
      quarantined.set(totals.quarantined);
      struggling.set(totals.effectsStruggling);
      troubled.set(totals.disksTroubled);
      maintained.set(totals.maintenance);
      drained.set(totals.nodesDrained);
      late.set(totals.oldestDueDeadlineSeconds);
      actors.reset();
      for (const { kind, state, count } of counts) actors.set({ kind, state }, count);
      findings.reset();
      for (const { kind, verdict, count } of found) findings.set({ kind, verdict }, count);
      up.set(1);
    } catch {
      up.set(0);
    }
  };
}
