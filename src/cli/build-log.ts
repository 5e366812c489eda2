/** `gpu-dev build-log`: what the build of a reservation's image wrote. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Command } from 'commander';
import { contextOf } from './context.ts';
import { pick } from './pick.ts';
import type { Surroundings } from './surroundings.ts';

interface Log {
  id: string;
  state: string | null;
  lines: { at: string; attempt: number; line: string }[];
  next_after: number;
}

const LOOK_AGAIN_MS = 1_000;

export function registerBuildLog(program: Command, surroundings: Surroundings): void {
  program
    .command('build-log')
    .argument('[id]', 'id or the beginning of one (default: your only live reservation)')
    .description('what the build of its image wrote; with --json, one line of JSON per line of the log')
    .option('--follow', 'go on until the build ends')
    .action(async (typed: string | undefined, options: { follow?: boolean }, command: Command) => {
      const context = contextOf(surroundings, command);
      const path = `/v1/reservations/${await pick(context, typed)}/build-log`;
      let after = 0;
      for (;;) {
        const log = await context.client.get<Log>(path, { after });
        if (log.state === null) {
          context.say('No image is built for it.');
          return;
        }
        for (const line of log.lines) {
          if (context.json) surroundings.out.write(`${JSON.stringify(line)}\n`);
          else context.say(line.line);
        }
        const more = log.next_after !== after;
        after = log.next_after;
        if (more) continue;
        if (options.follow !== true || log.state !== 'building') return;
        surroundings.interrupted.throwIfAborted();
        await pause(LOOK_AGAIN_MS);
      }
    });
}
