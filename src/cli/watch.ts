/** `gpu-dev watch`: one reservation, live, until it ends. */
import type { Command } from 'commander';
import type { ReservationView } from '../http/reservation-view.ts';
import { contextOf } from './context.ts';
import { CliError, EXIT } from './exit.ts';
import { follow, Progress } from './follow.ts';
import { hasEnded, summary } from './format.ts';
import { pick } from './pick.ts';
import type { Surroundings } from './surroundings.ts';

export function registerWatch(program: Command, surroundings: Surroundings): void {
  program
    .command('watch')
    .argument('[id]', 'id or the beginning of one (default: your only live reservation)')
    .description('follow a reservation until it ends; with --json, one line of JSON per change')
    .action(async (typed: string | undefined, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const first = await context.client.get<ReservationView>(`/v1/reservations/${await pick(context, typed)}`);
      const progress = new Progress(context.json ? null : surroundings.out);
      context.say(`${first.name}, ${first.id}`);
      let shown = '';
      const show = (view: ReservationView) => {
        const json = JSON.stringify(view);
        if (context.json && json !== shown) surroundings.out.write(`${json}\n`);
        shown = json;
        progress.show(summary(view, progress.live));
      };
      const last = await follow(context, first.id, hasEnded, show, progress);
      if (progress.live) context.say(summary(last));
      if (last.state === 'failed')
        throw new CliError(EXIT.ended, `${last.name} failed: ${last.failure_reason ?? 'no reason is known'}.`);
    });
}
