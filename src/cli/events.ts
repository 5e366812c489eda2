/** What is asked of a live reservation: `gpu-dev cancel`, `extend`, `add-user`, `remove-user`, `jupyter`. */
import { Argument, type Command } from 'commander';
import { v7 as uuidv7 } from 'uuid';
import type { ReservationView } from '../http/reservation-view.ts';
import { type Context, contextOf } from './context.ts';
import { CliError, EXIT } from './exit.ts';
import { follow, Progress, shower } from './follow.ts';
import { clock, fromNow } from './format.ts';
import { pick } from './pick.ts';
import { positive } from './reserve.ts';
import type { Surroundings } from './surroundings.ts';

interface EventAnswer {
  applied: boolean;
  reservation: ReservationView;
}

const ID = ['[id]', 'id or the beginning of one (default: your only live reservation)'] as const;

async function send(
  context: Context,
  typed: string | undefined,
  event: { type: string; [field: string]: unknown },
): Promise<EventAnswer> {
  const id = await pick(context, typed);
  return (await context.client.post<EventAnswer>(`/v1/reservations/${id}/events`, event, uuidv7())).body;
}

function sayPending(context: Context, { reservation }: EventAnswer): void {
  context.say(`Accepted, and not decided yet. See: gpu-dev show ${reservation.id}`);
}

export function registerCancel(program: Command, surroundings: Surroundings): void {
  program
    .command('cancel')
    .argument(...ID)
    .description('end a reservation; its disk is saved')
    .action(async (typed: string | undefined, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const answer = await send(context, typed, { type: 'cancel' });
      context.give(answer);
      if (!answer.applied) return sayPending(context, answer);
      const { id, name, state, disk } = answer.reservation;
      const ending = `${name} is ending${disk === null ? '' : `; the disk ${disk.name} is being saved`}. Follow it with: gpu-dev watch ${id}`;
      context.say(state === 'cancelled' ? `${name} is cancelled.` : ending);
    });
}

export function registerExtend(program: Command, surroundings: Surroundings): void {
  program
    .command('extend')
    .argument(...ID)
    .description('keep a running server longer')
    .requiredOption('--hours <hours>', 'how much longer, 0.5 is half an hour', positive)
    .action(async (typed: string | undefined, options: { hours: number }, command: Command) => {
      const context = contextOf(surroundings, command);
      const answer = await send(context, typed, { type: 'extend', extension_hours: options.hours });
      context.give(answer);
      if (!answer.applied) return sayPending(context, answer);
      const { name, expires_at: end } = answer.reservation;
      context.say(`${name} now ends ${end === null ? 'later' : `at ${clock(end)}, ${fromNow(end)}`}.`);
    });
}

export function registerAddUser(program: Command, surroundings: Surroundings): void {
  program
    .command('add-user')
    .argument('<github-name>', 'whose SSH keys may log in too')
    .argument(...ID)
    .description('let another user into a running server')
    .action(async (github: string, typed: string | undefined, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const answer = await send(context, typed, { type: 'add_user', github_username: github });
      context.give(answer);
      if (!answer.applied) return sayPending(context, answer);
      context.say(`${github} may log in to ${answer.reservation.name} in a moment.`);
    });
}

export function registerRemoveUser(program: Command, surroundings: Surroundings): void {
  program
    .command('remove-user')
    .argument('<github-name>', 'whose SSH keys may no longer log in')
    .argument(...ID)
    .description('take back what add-user gave; sessions that are open stay open')
    .action(async (github: string, typed: string | undefined, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const answer = await send(context, typed, { type: 'remove_user', github_username: github });
      context.give(answer);
      if (!answer.applied) return sayPending(context, answer);
      context.say(`${github} may not log in to ${answer.reservation.name} any more, in a moment.`);
    });
}

export function registerJupyter(program: Command, surroundings: Surroundings): void {
  program
    .command('jupyter')
    .addArgument(new Argument('<what>', 'switch it, or show where it is').choices(['on', 'off', 'show']))
    .argument(...ID)
    .description('Jupyter on a running server')
    .action(async (what: 'on' | 'off' | 'show', typed: string | undefined, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      if (what === 'show') return showJupyter(context, await pick(context, typed));
      const answer = await send(context, typed, { type: what === 'on' ? 'enable_jupyter' : 'disable_jupyter' });
      if (what === 'off' || !answer.applied) {
        context.give(answer);
        return answer.applied ? context.say(`Jupyter on ${answer.reservation.name} is going off.`) : sayPending(context, answer);
      }
      const progress = new Progress(context.json ? null : context.err);
      const settled = ({ jupyter }: ReservationView) => jupyter.state !== 'starting';
      const view = await follow(context, answer.reservation.id, settled, shower(progress), progress);
      if (view.jupyter.state !== 'on') {
        throw new CliError(
          EXIT.failed,
          `Jupyter did not start: ${view.jupyter.error ?? `the server is ${view.state}`}. Try again with gpu-dev jupyter on ${view.id}.`,
        );
      }
      await showJupyter(context, view.id);
    });
}

async function showJupyter(context: Context, id: string): Promise<void> {
  const answer = await context.client.get<{ state: string; url: string | null; token: string }>(
    `/v1/reservations/${id}/jupyter-token`,
  );
  context.give(answer);
  if (answer.url === null) context.say(`Jupyter is ${answer.state}. Switch it on with: gpu-dev jupyter on ${id}`);
  else context.say(`${answer.url}\ntoken: ${answer.token}`);
}
