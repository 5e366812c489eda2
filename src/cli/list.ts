/** `gpu-dev list`: reservations as a table. */
import { type Command, InvalidArgumentError } from 'commander';
import type { ReservationView } from '../http/reservation-view.ts';
import { contextOf } from './context.ts';
import { clock, fromNow, path, table, what } from './format.ts';
import type { Surroundings } from './surroundings.ts';

interface ListOptions {
  all?: boolean;
  everyone?: boolean;
  status?: string;
  type?: string;
  sharedWith?: string;
  limit: number;
}

export function registerList(program: Command, surroundings: Surroundings): void {
  program
    .command('list')
    .description('your reservations, newest first')
    .option('--all', 'those that have ended too')
    .option('--everyone', "everyone's, not only yours; for admins")
    .option('--status <states>', 'only these states, separated by commas')
    .option('--type <type>', 'only this GPU type')
    .option('--shared-with <github-name>', 'those of others into which this GitHub user was let')
    .option('--limit <n>', 'how many at most', limit, 50)
    .action(async (options: ListOptions, command: Command) => {
      const context = contextOf(surroundings, command);
      const shared = options.sharedWith;
      const everyone = options.everyone === true;
      const wide = everyone || shared !== undefined;
      const { reservations } = await context.client.get<{ reservations: ReservationView[] }>('/v1/reservations', {
        user: everyone ? '*' : undefined,
        status: options.status ?? (options.all === true ? undefined : 'live'),
        gpu_type: options.type,
        shared_with: shared,
        limit: options.limit,
      });
      context.give({ reservations });
      if (reservations.length === 0) {
        const kind = options.all === true || options.status !== undefined ? 'such' : 'live';
        if (shared !== undefined) return context.say(`${shared} was let into no ${kind} reservation.`);
        context.say(everyone ? `There is no ${kind} reservation.` : `${await context.client.user()} has no ${kind} reservation.`);
        return;
      }
      const owner = (view: ReservationView) => (wide ? [view.user_id] : []);
      context.say(
        table([
          ['ID', ...(wide ? ['USER'] : []), 'NAME', 'WHAT', 'STATE', 'WHEN', ...(shared === undefined ? [] : ['HOW'])],
          ...reservations.map((view) => [
            view.id,
            ...owner(view),
            view.name,
            what(view),
            path(view),
            when(view),
            ...(shared === undefined ? [] : [view.ssh_command ?? '']),
          ]),
        ]),
      );
    });
}

function when(view: ReservationView): string {
  if (view.ended_at !== null) return `ended ${fromNow(view.ended_at)}`;
  if (view.position !== null)
    return `place ${view.position}${view.estimated_start === null ? '' : `, about ${clock(view.estimated_start)}`}`;
  if (view.expires_at !== null && view.state !== 'snapshotting') return `ends ${fromNow(view.expires_at)}`;
  return view.detail ?? '';
}

function limit(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= 500) return value;
  throw new InvalidArgumentError('It must be 1 to 500.');
}
