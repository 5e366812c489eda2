// A Node program as a process of its own: started so that it outlives us, found again later, asked to end.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { identify, isRunning, type ProcessIdentity, signal, waitUntilGone } from '../../persistence/embedded/processes.ts';
import { type Home, readIdentity, writeJson } from './home.ts';
import { lastLines } from './logs.ts';

/** What to start. */
export type Program = {
  /** Names its log and its file in `run`. */
  readonly name: string;
  /** Path of the program and its arguments. */
  readonly command: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
  /** How long it may take until it says it is ready. */
  readonly readyTimeoutMs: number;
};

/** A running part: who it is, where it listens, and why it ended, once it did. */
export type Running = {
  readonly identity: ProcessIdentity;
  readonly port: number;
  readonly adopted: boolean;
  /** "exit code 1", "SIGKILL"; unknown for a process that somebody else started. */
  readonly ending: () => string;
};

/** The file that remembers a program's process. */
export function pidFile(home: Home, name: string): string {
  return join(home.run, `${name}.json`);
}

/** The log of a program: what it writes to stderr. */
export function logFile(home: Home, name: string): string {
  return join(home.logs, `${name}.log`);
}

/** The program's process of an earlier supervisor, if it still runs. */
export function findProgram(home: Home, name: string): (ProcessIdentity & { readonly port?: number }) | undefined {
  const known = readIdentity(pidFile(home, name));
  return known !== undefined && isRunning(known) ? known : undefined;
}

/**
 * Starts a program and waits until it prints {"ready":true,"port":N} on stdout. Throws with its last log lines when it ends before, and
 * ends it when it takes too long or `abort` fires.
 */
export async function startProgram(home: Home, program: Program, abort: AbortSignal): Promise<Running> {
  const stdout = join(home.logs, `${program.name}.out`);
  rmSync(stdout, { force: true });
  const child = spawnDetached(program, stdout, logFile(home, program.name));
  let ending: string | undefined;
  child.once('exit', (code, killedBy) => {
    ending = killedBy ?? `exit code ${code}`;
  });
  child.once('error', (error) => {
    ending = error.message;
  });
  const identity = child.pid === undefined ? undefined : identify(child.pid);
  if (identity !== undefined) writeJson(pidFile(home, program.name), identity);
  const end = Date.now() + program.readyTimeoutMs;
  const dead = () => ending !== undefined || identity === undefined || !isRunning(identity);
  for (;;) {
    const port = readyPort(stdout);
    if (port !== undefined && identity !== undefined) {
      writeJson(pidFile(home, program.name), { ...identity, port });
      return { identity, port, adopted: false, ending: () => ending ?? 'it ended' };
    }
    if (dead()) {
      // Let the exit code arrive: the process table is faster than the event.
      await new Promise((resolve) => setTimeout(resolve, 50));
      throw new StartError(
        program.name,
        `ended before it was ready (${ending ?? 'reason unknown'})`,
        logFile(home, program.name),
      );
    }
    if (abort.aborted || Date.now() > end) {
      if (identity !== undefined) await endProgram(identity, 5_000);
      const reason = abort.aborted ? 'was told to stop' : `was not ready in ${program.readyTimeoutMs / 1000} s`;
      throw new StartError(program.name, reason, logFile(home, program.name));
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** SIGTERM, then SIGKILL when it still runs after the time given (ms). Returns false when it had to be killed. */
export async function endProgram(identity: ProcessIdentity, patienceMs: number): Promise<boolean> {
  if (!signal(identity, 'SIGTERM') || (await waitUntilGone(identity, patienceMs))) return true;
  signal(identity, 'SIGKILL');
  await waitUntilGone(identity, 5_000);
  return false;
}

/** A part that did not come up, with the end of its log. */
export class StartError extends Error {
  readonly lines: readonly string[];

  constructor(name: string, reason: string, log: string) {
    super(`the ${name} ${reason}`);
    this.lines = lastLines(log, 12);
  }
}

function spawnDetached(program: Program, stdout: string, stderr: string): ChildProcess {
  const out = openSync(stdout, 'a', 0o600);
  const err = openSync(stderr, 'a', 0o600);
  try {
    const child = spawn(process.execPath, [...program.command], {
      env: program.environment,
      // A process group of its own: Ctrl-C in the terminal reaches the supervisor alone, which then asks for things in order.
      detached: true,
      stdio: ['ignore', out, err],
    });
    child.unref();
    return child;
  } finally {
    closeSync(out);
    closeSync(err);
  }
}

function readyPort(stdout: string): number | undefined {
  for (const line of lastLines(stdout, 50)) {
    if (!line.startsWith('{"ready":true')) continue;
    try {
      const { port } = JSON.parse(line) as { port?: unknown };
      if (typeof port === 'number') return port;
    } catch {
      // Half a line: the next look sees the rest.
    }
  }
  return undefined;
}
