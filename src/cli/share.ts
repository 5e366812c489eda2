/** `gpu-dev share`, `unshare`, `shared`: who else may do something with a reservation; and `gpu-dev github`, which proves whose name is whose. */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Command, Option } from 'commander';
import { ROLES } from '../identity/principal.ts';
import { type Context, contextOf } from './context.ts';
import { CliError, EXIT } from './exit.ts';
import { table } from './format.ts';
import { pick } from './pick.ts';
import type { Surroundings } from './surroundings.ts';

interface Everybody {
  owner: string;
  collaborators: { user: string | null; github_user: string | null; role: string | null; ssh: boolean }[];
  ssh_note?: string | null;
}

const ID = ['[id]', 'id or the beginning of one (default: your only live reservation)'] as const;
const run = promisify(execFile);

export function registerShare(program: Command, surroundings: Surroundings): void {
  program
    .command('share')
    .argument('<who>', 'a user, or github:<name>')
    .argument(...ID)
    .addOption(new Option('--role <role>', 'view it, attach to it, or own it as you do').choices(ROLES).default('attach'))
    .description('let somebody into a reservation, or change what they may')
    .action(async (who: string, typed: string | undefined, options: { role: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      const id = await pick(context, typed);
      const name = who.startsWith('github:') ? { github_username: who.slice(7) } : { user: who };
      const body = { ...name, role: options.role };
      const answer = await context.client.post<Everybody>(`/v1/reservations/${id}/collaborators`, body, randomUUID());
      show(context, answer.body);
      if (answer.body.ssh_note != null) context.say(`Their SSH keys are not let in: ${answer.body.ssh_note}.`);
    });

  program
    .command('unshare')
    .argument('<who>', 'a user, or github:<name>')
    .argument(...ID)
    .description('let somebody into a reservation no more; sessions that are open stay open')
    .action(async (who: string, typed: string | undefined, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const id = await pick(context, typed);
      const path = `/v1/reservations/${id}/collaborators/${encodeURIComponent(who)}`;
      show(context, (await context.client.send<Everybody>('DELETE', path)).body);
    });

  program
    .command('shared')
    .argument(...ID)
    .description('who was let into a reservation')
    .action(async (typed: string | undefined, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const id = await pick(context, typed);
      show(context, await context.client.get<Everybody>(`/v1/reservations/${id}/collaborators`));
    });

  program
    .command('github')
    .argument('<name>', 'your GitHub user name')
    .option('--key <file>', 'the private key of an SSH key that GitHub shows for you', join(homedir(), '.ssh', 'id_ed25519'))
    .description('prove that a GitHub name is yours, by a signature of ssh-keygen; once')
    .action(async (name: string, options: { key: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      const asked = await context.client.post<{ message: string; namespace: string }>(
        '/v1/me/github',
        { github_username: name },
        randomUUID(),
      );
      const signature = await sign(asked.body.message, asked.body.namespace, options.key);
      const { body } = await context.client.post<{ github_user: string }>('/v1/me/github/proof', { signature }, randomUUID());
      context.give(body);
      context.say(`${body.github_user} of GitHub is you, here.`);
    });
}

function show(context: Context, everybody: Everybody): void {
  context.give(everybody);
  context.say(
    table([
      ['USER', 'GITHUB', 'MAY', 'SSH'],
      [everybody.owner, '', 'owns it', ''],
      ...everybody.collaborators.map((one) => [one.user ?? '', one.github_user ?? '', one.role ?? '', one.ssh ? 'let in' : '']),
    ]),
  );
}

/** Sign as `ssh-keygen -Y sign` does. @throws CliError with what it says */
async function sign(message: string, namespace: string, key: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'gpu-dev-sign-'));
  const file = join(folder, 'message');
  try {
    await writeFile(file, message);
    await run('ssh-keygen', ['-Y', 'sign', '-q', '-n', namespace, '-f', key, file]);
    return await readFile(`${file}.sig`, 'utf8');
  } catch (error) {
    const { stderr, message: text } = error as { stderr?: string; message: string };
    const why = (stderr || text).trim().split('\n').at(-1);
    throw new CliError(EXIT.failed, `The message could not be signed: ${why}. Name another key with --key.`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
