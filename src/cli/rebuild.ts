/** `gpu-dev admin rebuild`: what a lost database knew, built anew from what stands on the cluster and in the cloud. */
import pino from 'pino';
import { Kernel } from '../../actors/kernel/kernel.ts';
import { gpuDevKinds } from '../../actors/kinds.ts';
import { ClusterDoubt } from '../../actors/reality/cluster-guard.ts';
import { recordAudit } from '../../persistence/audit.ts';
import { ConfigError, readConfig } from '../config.ts';
import { eksAccessOf } from '../providers/aws/eks.ts';
import { providersFrom } from '../providers/providers.ts';
import { rebuild, type RebuildReport } from '../rebuild/rebuild.ts';
import type { Context } from './context.ts';
import { environmentOf, withDatabase } from './database.ts';
import { CliError, EXIT } from './exit.ts';
import { table } from './format.ts';

/**
 * Show what would come back, or bring it back. It works in this process, with the settings of the service.
 * @throws CliError if the settings do not lead to a cluster, or it is another one than the database commands
 */
export async function rebuildAll(context: Context, user: string, dryRun: boolean): Promise<void> {
  const environment = environmentOf(context.surroundings);
  await withDatabase(context, async (db) => {
    const config = configOf(environment);
    const log = pino({ level: 'silent' });
    const providers = providersFrom(config, db, log, await eksAccessOf(config, environment));
    const { remains, guard } = providers;
    if (remains === undefined) throw new CliError(EXIT.failed, 'Nothing is known here of what remains.');
    await guard.confirm(performance.now()).catch((error: unknown) => {
      if (error instanceof ClusterDoubt) throw new CliError(EXIT.refused, error.message);
      throw error;
    });
    const kinds = gpuDevKinds({ db, snapshotRetention: config.snapshotRetention, ...providers });
    // It takes the first turns of what it brings back, and leaves their effects to the service.
    const kernel = new Kernel({ db, kinds, timeScale: config.timeScale, effectConcurrency: 0 });
    const onDone = () => context.surroundings.interrupted.throwIfAborted();
    const report = await rebuild({ db, kernel, remains, onDone }, { dryRun });
    if (!dryRun) {
      kernel.wakeOthers();
      const details = { back: report.back.length, left: report.left.length };
      await recordAudit(db, { actor: user, door: 'operator', action: 'database.rebuild', object: 'database', details });
    }
    context.give(report);
    say(context, report);
  });
}

function configOf(environment: NodeJS.ProcessEnv) {
  try {
    return readConfig(environment);
  } catch (error) {
    if (error instanceof ConfigError)
      throw new CliError(
        EXIT.usage,
        `${error.message}. A rebuild needs the settings of the service: run it where the service runs.`,
      );
    throw error;
  }
}

function say(context: Context, { dryRun, back, left, known }: RebuildReport): void {
  const rows = [
    ...back.map(({ kind, id, owner, name, as }) => [kind, id, owner, name, dryRun ? 'would come back' : 'is back', as]),
    ...left.map(({ kind, id, why }) => [kind, id, '', '', 'is left as it is', why]),
  ];
  if (rows.length > 0) context.say(table([['WHAT', 'ID', 'OWNER', 'NAME', '', 'HOW'], ...rows]));
  else context.say('Nothing is there that the database does not know.');
  context.say(`The database knows ${known.servers} of the servers and ${known.disks} of the disks already.`);
  if (left.some(({ kind }) => kind === 'server'))
    context.say('What a server takes that is left counts as taken until its pod is gone. To end it: kubectl delete pod.');
}
