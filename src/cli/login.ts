/** `gpu-dev login`, `logout` and `whoami`. */
import type { Command } from 'commander';
import { type Context, contextOf } from './context.ts';
import { credentialsFile, forgetKeys } from './credentials.ts';
import { CliError } from './exit.ts';
import { fromNow, table } from './format.ts';
import { localLogin, type LoginAnswer } from './session.ts';
import { type Surroundings, urlOf, userOf } from './surroundings.ts';

interface Me {
  username: string;
  aws_arn: string | null;
  github_user: string | null;
  is_admin: boolean;
  key_prefix: string;
  scopes: string[];
  expires_at: string;
}

export function registerLogin(program: Command, surroundings: Surroundings): void {
  program
    .command('login')
    .description('log in, with the credentials that the AWS tools would use; nothing secret is sent')
    .option('--local', 'as somebody at this machine, where the service runs here')
    .option('--profile <name>', 'which AWS profile (default: AWS_PROFILE)')
    .action(async (options: { local?: boolean; profile?: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      const base = urlOf(surroundings, command.optsWithGlobals());
      // The next login by itself is to be the same person's, whatever the environment says then.
      const profile = options.local === true ? null : (options.profile ?? (surroundings.environment.AWS_PROFILE || null));
      const answer =
        options.local === true
          ? await localLogin(base, userOf(surroundings, command.optsWithGlobals()), surroundings.interrupted)
          : await (await import('./aws-login.ts')).signedLogin(base, surroundings, profile ?? undefined);
      context.session.keep(answer, options.local === true ? 'local' : 'aws', profile);
      tell(context, answer);
    });

  program
    .command('logout')
    .description('revoke the key of this machine and forget it')
    .option('--all', 'of all users that logged in here')
    .action(async (options: { all?: boolean }, command: Command) => {
      const context = contextOf(surroundings, command);
      const { user } = command.optsWithGlobals<{ user?: string }>();
      const wanted = options.all === true ? null : (user ?? context.session.userOfKept());
      const gone = wanted === undefined ? [] : forgetKeys(surroundings, context.client.url, wanted);
      for (const { api_key: key } of gone) await revoke(context, key);
      context.give({ logged_out: gone.map((key) => key.user) });
      context.say(
        gone.length === 0
          ? `You were not logged in at ${context.client.url}.`
          : `Logged out: ${gone.map((key) => key.user).join(', ')}.`,
      );
    });

  program
    .command('whoami')
    .description('who you are to the service, and until when')
    .action(async (_options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const me = await context.client.get<Me>('/v1/me');
      context.give(me);
      context.say(
        table([
          ['user', me.username + (me.is_admin ? ' (admin)' : '')],
          ...(me.aws_arn === null ? [] : [['AWS', me.aws_arn]]),
          ...(me.github_user === null ? [] : [['GitHub', me.github_user]]),
          ['key', `${me.key_prefix}…, ends ${fromNow(me.expires_at)}`],
          ['may', me.scopes.join(', ')],
        ]),
      );
    });

  function tell(context: Context, { api_key: _, ...answer }: LoginAnswer): void {
    context.give(answer);
    context.say(
      `You are ${answer.username} at ${context.client.url}; the key ends ${fromNow(answer.expires_at)}. It is in ${credentialsFile(surroundings)}.`,
    );
  }
}

/** A key that cannot be revoked now ends by itself. */
async function revoke(context: Context, key: string): Promise<void> {
  try {
    await context.client.revoke(key);
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    context.err.write(`gpu-dev: the key could not be revoked: ${error.message}\n`);
  }
}
