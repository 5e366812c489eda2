/** `gpu-dev admin audit`: the log of who did what, and the proof that nothing in it was changed. */
import type { Command } from 'commander';
import { findSeal, verifyChain } from '../../persistence/audit-seals.ts';
import { contextOf } from './context.ts';
import { withDatabase } from './database.ts';
import { CliError, EXIT } from './exit.ts';
import { fromNow, table } from './format.ts';
import type { Surroundings } from './surroundings.ts';

interface Entry {
  id: number;
  at: string;
  actor: string;
  door: string;
  action: string;
  object: string;
  address: string | null;
}

export function registerAudit(admin: Command, surroundings: Surroundings): void {
  const audit = admin.command('audit').description('who did what to what, from where').helpCommand(false);

  audit
    .command('list')
    .description('the audit log, newest first')
    .option('--actor <user>', 'only what this user did')
    .option('--object <object>', 'only what was done to this: reservation/<id>, user/<name>, key/<id>')
    .option('--action <action>', 'only this action, such as user.login')
    .option('--limit <n>', 'how many at most', '50')
    .action(async (options: { actor?: string; object?: string; action?: string; limit: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      const answer = await context.client.get<{ entries: Entry[] }>('/v1/admin/audit', options);
      context.give(answer);
      context.say(
        table([
          ['ID', 'WHEN', 'WHO', 'DID', 'TO', 'BY', 'FROM'],
          ...answer.entries.map((row) => [
            String(row.id),
            fromNow(row.at),
            row.actor,
            row.action,
            row.object,
            row.door,
            row.address ?? '',
          ]),
        ]),
      );
    });

  audit
    .command('verify')
    .description('walk the chain and prove that it is unbroken; needs the database (POSTGRES_*, or what runs here)')
    .option('--expect <hash>', 'a last hash that was noted earlier: it must still be in the chain')
    .action(async (options: { expect?: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      await withDatabase(context, async (db) => {
        const report = await verifyChain(db);
        const expected = options.expect === undefined ? null : await findSeal(db, options.expect);
        context.give({ ...report, ...(options.expect === undefined ? {} : { expected_at: expected }) });
        if (report.broken !== null) {
          const { seq, auditId, why } = report.broken;
          throw new CliError(
            EXIT.failed,
            `The chain is broken at link ${seq}${auditId === null ? '' : ` (row ${auditId})`}: ${why}. Keep the database as it is.`,
          );
        }
        if (options.expect !== undefined && expected === null) {
          throw new CliError(EXIT.failed, 'The chain is unbroken, and it is not the one that hash is of: it was written anew.');
        }
        const { sealed, unsealed, unsealedSeconds: age, head } = report;
        const tail = unsealed === 0 ? 'none waits' : `${unsealed} wait to be sealed, the oldest for ${Math.round(age ?? 0)} s`;
        context.say(`${sealed} rows, unbroken; ${tail}.\nThe last hash is ${head}; kept elsewhere, it proves all before it.`);
      });
    });
}
