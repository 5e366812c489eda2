/** `gpu-dev admin accept-cluster` and `accept-vanished`: an operator's word where the service believes nothing by itself. */
import type { Command } from 'commander';
import { acceptCluster } from '../../persistence/cluster-identity.ts';
import { acceptVanished } from '../../persistence/vanished-pods.ts';
import { type Context, contextOf } from './context.ts';
import { withDatabase } from './database.ts';
import { CliError, EXIT } from './exit.ts';
import { type Surroundings, userOf } from './surroundings.ts';

/** What a uid is: no cluster gives out anything else. */
const UID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function registerCluster(admin: Command, surroundings: Surroundings): void {
  admin
    .command('accept-cluster')
    .requiredOption('--namespace-uid <uid>', 'of the namespace of the dev servers, as the service names it')
    .requiredOption('--reason <text>', 'what became of the one before it; it stays on record')
    .description('this database commands another cluster, or a namespace made anew, from now on; needs the database')
    .action(async (options: { namespaceUid: string; reason: string }, command: Command) =>
      accept(contextOf(surroundings, command), userOf(surroundings, command.optsWithGlobals()), options),
    );
  admin
    .command('accept-vanished')
    .requiredOption('--reason <text>', 'how you know that they are gone; it stays in their histories')
    .description('give your word that the servers are gone that vanished all at once and are held back; needs the database')
    .action(async (options: { reason: string }, command: Command) =>
      vanished(contextOf(surroundings, command), userOf(surroundings, command.optsWithGlobals()), options.reason),
    );
}

async function accept(
  context: Context,
  user: string,
  { namespaceUid, reason }: { namespaceUid: string; reason: string },
): Promise<void> {
  const uid = namespaceUid.trim().toLowerCase();
  if (!UID.test(uid))
    throw new CliError(EXIT.usage, `${namespaceUid} is no uid. See: kubectl get namespace gpu-dev -o jsonpath='{.metadata.uid}'`);
  needsReason(reason, 'what became of the cluster or namespace before it');
  await withDatabase(context, async (db) => {
    const before = await acceptCluster(db, uid, { by: user, reason: reason.trim() });
    context.give({ namespace_uid: uid, before: before?.namespaceUid ?? null, by: user, reason: reason.trim() });
    context.say(
      before === null
        ? `The database commands the namespace ${uid}.`
        : `The database commands the namespace ${uid} now, and ${before.namespaceUid} no more. Services that run find out by themselves; start those that refused.`,
    );
  });
}

async function vanished(context: Context, user: string, reason: string): Promise<void> {
  needsReason(reason, 'how you know that they are gone');
  await withDatabase(context, async (db) => {
    const reservations = await acceptVanished(db, { by: user, reason: reason.trim() });
    context.give({ reservations, by: user, reason: reason.trim() });
    context.say(
      reservations.length === 0
        ? 'No server that vanished is held back.'
        : `${reservations.length} reservations are told within half a minute that their servers are gone, once the API server has said so for each: ${reservations.join(', ')}`,
    );
  });
}

function needsReason(reason: string, what: string): void {
  if (reason.trim() === '') throw new CliError(EXIT.usage, `Say with --reason ${what}.`);
}
