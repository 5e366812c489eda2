/** The command line tool: its commands, and how a run of one ends. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { registerAdmin } from './admin.ts';
import { registerAvail } from './avail.ts';
import { registerBuildLog } from './build-log.ts';
import { registerDisk } from './disk.ts';
import { registerEnv } from './env.ts';
import { registerAddUser, registerCancel, registerExtend, registerJupyter, registerRemoveUser } from './events.ts';
import { CliError, EXIT, EXIT_MEANINGS, type ExitCode } from './exit.ts';
import { clean } from './format.ts';
import { registerKeys } from './keys.ts';
import { registerList } from './list.ts';
import { registerLogin } from './login.ts';
import { registerReserve } from './reserve.ts';
import { registerShare } from './share.ts';
import { registerShow } from './show.ts';
import type { Surroundings } from './surroundings.ts';
import { registerWatch } from './watch.ts';

const MANIFEST = new URL('../../package.json', import.meta.url);

/** The program with all its commands. */
export function buildProgram(surroundings: Surroundings): Command {
  const { version } = JSON.parse(readFileSync(MANIFEST, 'utf8')) as { version: string };
  const program = new Command('gpu-dev')
    .description('Reserve GPU dev servers.')
    .version(version)
    .option('--json', 'print JSON, and nothing else, on stdout; errors go to stderr as JSON')
    .option(
      '--user <name>',
      'as whom, of those who have logged in here; where nobody needs to, anybody (default: GPU_DEV_API_KEY, GPU_DEV_USER, or your login name)',
    )
    .option('--url <url>', 'where the service is (default: GPU_DEV_URL, or what runs here, or http://127.0.0.1:8080)')
    .showHelpAfterError('(add --help to see what it takes)')
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: true })
    .addHelpText('after', exitCodesHelp());
  for (const register of [
    registerReserve,
    registerList,
    registerShow,
    registerCancel,
    registerExtend,
    registerAvail,
    registerWatch,
    registerBuildLog,
  ]) {
    register(program, surroundings);
  }
  registerDisk(program, surroundings);
  registerAddUser(program, surroundings);
  registerRemoveUser(program, surroundings);
  registerJupyter(program, surroundings);
  registerLogin(program, surroundings);
  registerKeys(program, surroundings);
  registerShare(program, surroundings);
  registerEnv(program, surroundings);
  registerAdmin(program, surroundings);
  for (const command of withAllBelow(program)) {
    command.exitOverride();
    command.configureOutput({
      writeOut: (text) => void surroundings.out.write(text),
      // Under --json the error is told once, as JSON, when the run ends.
      writeErr: (text) => void (program.opts().json === true || surroundings.err.write(text)),
    });
    command.configureHelp({ showGlobalOptions: true });
  }
  return program;
}

/** A command and all commands below it. */
function withAllBelow(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withAllBelow)];
}

function exitCodesHelp(): string {
  const lines = Object.entries(EXIT_MEANINGS).map(([code, meaning]) => `  ${code.padEnd(3)}  ${meaning}`);
  return `\nExit codes:\n${lines.join('\n')}`;
}

/** Run a command line, without the name of the program. @returns the exit code; it never throws. */
export async function run(argv: readonly string[], surroundings: Surroundings): Promise<number> {
  const program = buildProgram(surroundings);
  const previous = process.exitCode;
  try {
    await program.parseAsync([...argv], { from: 'user' });
    // The command `env` tells its failure this way.
    const own = process.exitCode === previous ? EXIT.ok : Number(process.exitCode ?? EXIT.ok);
    process.exitCode = previous;
    return own;
  } catch (error) {
    const { exit, message, told } = endingOf(error, surroundings);
    const json = program.opts().json === true || argv.includes('--json');
    if (exit === EXIT.ok) return exit;
    if (json)
      surroundings.err.write(
        `${JSON.stringify({ error: { exit, message, problem: error instanceof CliError ? error.problem : null } })}\n`,
      );
    else if (!told) surroundings.err.write(`gpu-dev: ${clean(message)}\n`);
    return exit;
  }
}

/** What an error means for the one who typed the command. */
function endingOf(error: unknown, surroundings: Surroundings): { exit: ExitCode; message: string; told: boolean } {
  if (error instanceof CliError) return { exit: error.exit, message: error.message, told: false };
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return { exit: EXIT.ok, message: '', told: true };
    // Without a command the help is the answer, and commander has written it.
    return { exit: EXIT.usage, message: error.message.replace(/^error: /, ''), told: true };
  }
  if (surroundings.interrupted.aborted) return { exit: EXIT.interrupted, message: 'interrupted', told: true };
  const message = error instanceof Error ? error.message : String(error);
  return { exit: EXIT.failed, message: `Something went wrong here: ${message}`, told: false };
}
