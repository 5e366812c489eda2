/** `gpu-dev admin`: for operators. `verify`, `confirm-gone` and `accept-…` use the database itself; everything else goes through the service. */
import type { Command } from 'commander';
import { v7 as uuidv7 } from 'uuid';
import { type FoldResult, verifyActor, verifyAll } from '../../actors/kernel/fold.ts';
import { gpuDevKinds, type Ports } from '../../actors/kinds.ts';
import { findActor } from '../../persistence/actor-store.ts';
import { recordAudit } from '../../persistence/audit.ts';
import type { Database } from '../../persistence/database.ts';
import { enqueue } from '../../persistence/mailbox.ts';
import { registerCapacity } from './admin-capacity.ts';
import { registerLetters } from './admin-letters.ts';
import { registerAudit } from './audit.ts';
import { registerCluster } from './cluster.ts';
import { type Context, contextOf } from './context.ts';
import { withDatabase } from './database.ts';
import { CliError, EXIT } from './exit.ts';
import { reconcile } from './reconcile.ts';
import { type Surroundings, userOf } from './surroundings.ts';

export function registerAdmin(program: Command, surroundings: Surroundings): void {
  const admin = program.command('admin').description('for operators').helpCommand(false);
  admin
    .command('verify')
    .argument('[id]', 'a reservation, or an actor like disk/<id> (default: every actor)')
    .description('fold histories and compare with what is stored; needs the database (POSTGRES_*, or what runs here)')
    .action(async (id: string | undefined, _options: object, command: Command) => verify(contextOf(surroundings, command), id));
  admin
    .command('confirm-gone')
    .argument('<id>', 'a reservation whose server is being stopped, or the beginning of its id')
    .requiredOption('--reason <text>', 'how you know that its containers run no more; it stays in the history')
    .description(
      'give your word that a server on a node that does not answer has ended: its GPUs are given to the next; needs the database',
    )
    .action(async (id: string, options: { reason: string }, command: Command) =>
      confirmGone(contextOf(surroundings, command), userOf(surroundings, command.optsWithGlobals()), id, options.reason),
    );
  registerCluster(admin, surroundings);
  registerAudit(admin, surroundings);
  admin
    .command('reconcile')
    .option('--dry-run', 'only tell what would be done')
    .description('compare database and cluster now, remove what has ended, tell actors what is missing')
    .action(async (options: { dryRun?: boolean }, command: Command) =>
      reconcile(contextOf(surroundings, command), options.dryRun === true),
    );
  admin
    .command('rebuild')
    .option('--dry-run', 'only tell what would come back, what cannot, and why')
    .description(
      'bring back disks, snapshots and running servers that a lost database knew; needs database, cluster and cloud, as the service has them',
    )
    .action(async (options: { dryRun?: boolean }, command: Command) => {
      // What it takes of the service is more than all other commands need together.
      const { rebuildAll } = await import('./rebuild.ts');
      await rebuildAll(
        contextOf(surroundings, command),
        userOf(surroundings, command.optsWithGlobals()),
        options.dryRun === true,
      );
    });
  registerLetters(admin, surroundings);
  registerCapacity(admin, surroundings);
}

async function verify(context: Context, id: string | undefined): Promise<void> {
  await withDatabase(context, async (db) => {
    // Folding calls no handler, so no port is ever used.
    const kinds = new Map(gpuDevKinds({ db } as unknown as Ports).map((kind) => [kind.kind, kind]));
    const results = id === undefined ? verifyAll(db, kinds) : [await verifyActor(db, kinds, await actorOf(db, id))];
    await report(context, results);
  });
}

/** Post the operator's word as the proof that a stopping server has ended. It stands in history with its sender and reason. */
async function confirmGone(context: Context, user: string, id: string, reason: string): Promise<void> {
  if (reason.trim() === '') throw new CliError(EXIT.usage, 'Say with --reason how you know that its containers run no more.');
  await withDatabase(context, async (db) => {
    const actor = await actorOf(db, id);
    const snapshot = (await findActor(db, actor))?.snapshot;
    const value = JSON.stringify(snapshot?.value ?? null);
    if (!actor.startsWith('reservation/') || !/"(stopping|retreating)"/.test(value)) {
      throw new CliError(
        EXIT.refused,
        `The server of ${actor} is not being stopped, so there is nothing to confirm. Cancel it first.`,
      );
    }
    const { generation } = snapshot!.context as { generation: number };
    const event = { type: 'pod.gone', generation, proof: `the word of ${user}: ${reason.trim()}` } as { type: string };
    await db.withTransaction(async (tx) => {
      await enqueue(tx, [{ actor, key: `confirm-gone:${uuidv7()}`, event, sender: `operator:${user}` }]);
      const details = { generation, reason: reason.trim() };
      await recordAudit(tx, { actor: user, door: 'operator', action: 'reservation.confirm_gone', object: actor, details });
    });
    context.give({ actor, generation, by: user, reason: reason.trim() });
    context.say(`${actor} is told that its server has ended. Its GPUs are free when it has read that.`);
  });
}

async function report(context: Context, results: AsyncIterable<FoldResult> | Iterable<FoldResult>): Promise<void> {
  const problems: FoldResult[] = [];
  let actors = 0;
  let events = 0;
  for await (const result of results) {
    context.surroundings.interrupted.throwIfAborted();
    actors++;
    events += result.events;
    if (result.ok) continue;
    problems.push(result);
    context.say(`${result.actor}: ${result.problem ?? 'differs'}`);
  }
  context.give({ ok: problems.length === 0, actors, events, problems });
  const counted = `${actors} ${actors === 1 ? 'actor' : 'actors'}, ${events} events`;
  if (problems.length > 0)
    throw new CliError(
      EXIT.failed,
      `${problems.length} of ${counted} do not fold to what is stored. Keep the database as it is, and look at the history of these actors.`,
    );
  context.say(`${counted}: every history folds to exactly what is stored.`);
}

/** The address of the actor that is meant. */
async function actorOf(db: Database, id: string): Promise<string> {
  const start = id.includes('/') ? id : `reservation/${id.toLowerCase()}`;
  const { rows } = await db.query<{ actor: string }>('select actor from actors where actor ^@ $1 order by actor limit 6', [
    start,
  ]);
  const exact = rows.find((row) => row.actor === start) ?? (rows.length === 1 ? rows[0] : undefined);
  if (exact !== undefined) return exact.actor;
  if (rows.length === 0) throw new CliError(EXIT.notFound, `There is no actor ${start}. See gpu-dev list --all --everyone.`);
  throw new CliError(
    EXIT.usage,
    `More than one actor begins with ${start}: ${rows.map((row) => row.actor).join(', ')}. Give more of the id.`,
  );
}
