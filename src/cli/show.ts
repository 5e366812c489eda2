/** `gpu-dev show`: one reservation in full, with its history if asked. */
import type { Command } from 'commander';
import type { ReservationView } from '../http/reservation-view.ts';
import { contextOf } from './context.ts';
import { clock, fromNow, path, span, table, what } from './format.ts';
import { pick } from './pick.ts';
import type { Surroundings } from './surroundings.ts';

interface History {
  entries: {
    seq: number;
    at: string;
    type: string;
    outcome: string;
    reason: string | null;
    from: string | null;
    to: string | null;
    sender: string;
  }[];
  effects: { id: string; type: string; status: string; attempts: number; last_error: string | null }[];
  deadlines: { name: string; due_at: string }[];
}

export function registerShow(program: Command, surroundings: Surroundings): void {
  program
    .command('show')
    .argument('[id]', 'id or the beginning of one (default: your only live reservation)')
    .description('one reservation in full')
    .option('--history', 'what happened to it, and what is to come')
    .action(async (typed: string | undefined, options: { history?: boolean }, command: Command) => {
      const context = contextOf(surroundings, command);
      const view = await context.client.get<ReservationView>(`/v1/reservations/${await pick(context, typed)}`);
      const history = options.history === true ? await context.client.get<History>(`/v1/reservations/${view.id}/history`) : null;
      context.give(history === null ? view : { ...view, history });
      context.say(linesOf(view));
      if (history !== null) context.say(historyOf(history));
    });
}

function linesOf(view: ReservationView): string {
  const jupyter = [view.jupyter.state, view.jupyter.url, view.jupyter.error].filter((part) => part !== null).join(', ');
  const extension = view.last_extension;
  const rows: [string, string | null][] = [
    ['id', view.id],
    ['name', view.name],
    ['user', view.user_id],
    ['state', `${path(view)}${view.detail === null ? '' : `: ${view.detail}`}`],
    ['what', `${what(view)} for ${span(view.total_hours * 3_600_000)}`],
    ['place', view.position === null ? null : `${view.position}${view.waits_because === null ? '' : ` (${view.waits_because})`}`],
    ['start', view.estimated_start === null ? null : `about ${clock(view.estimated_start)}, ${fromNow(view.estimated_start)}`],
    ['created', clock(view.created_at)],
    ['launched', view.launched_at === null ? null : clock(view.launched_at)],
    [
      'ends',
      view.expires_at === null || view.ended_at !== null ? null : `${clock(view.expires_at)}, ${fromNow(view.expires_at)}`,
    ],
    ['ended', view.ended_at === null ? null : `${clock(view.ended_at)}, ${fromNow(view.ended_at)}`],
    ['because', view.failure_reason],
    ['ssh', view.ssh_command],
    ['dns', view.hostname === null || view.ended_at !== null ? null : dns(view.hostname)],
    ['node', view.node],
    [
      'disk',
      view.disk === null
        ? 'none'
        : `${view.disk.name}${view.disk.snapshot_id === null ? '' : `, saved as ${view.disk.snapshot_id}`}`,
    ],
    ['jupyter', jupyter === 'off' ? null : jupyter],
    ['users', view.secondary_users.length === 0 ? null : view.secondary_users.join(', ')],
    [
      'extension',
      extension === null ? null : `${extension.hours} h ${extension.granted ? 'granted' : `refused: ${extension.reason}`}`,
    ],
    ['memory', view.oom.count === 0 ? null : `ran out ${view.oom.count} times`],
    ['takes', view.accepts.length === 0 ? null : view.accepts.join(', ')],
  ];
  return table(rows.flatMap(([name, value]) => (value === null ? [] : [[name, value]])));
}

function dns({ name, published, problem }: NonNullable<ReservationView['hostname']>): string {
  if (published) return name;
  return `${name}, which is not in DNS yet${problem === null ? '' : `: ${problem}`}`;
}

function historyOf({ entries, effects, deadlines }: History): string {
  const blocks = [
    table([
      ['SEQ', 'AT', 'EVENT', 'OUTCOME', 'FROM', 'TO', 'SENDER'],
      ...entries.map((entry) => [
        String(entry.seq),
        entry.at,
        entry.type,
        entry.reason === null ? entry.outcome : `${entry.outcome}: ${entry.reason}`,
        entry.from ?? '',
        entry.to ?? '',
        entry.sender,
      ]),
    ]),
    table([
      ['EFFECT', 'STATUS', 'ATTEMPTS', 'LAST ERROR'],
      ...effects.map((effect) => [effect.type, effect.status, String(effect.attempts), effect.last_error ?? '']),
    ]),
    ...(deadlines.length === 0
      ? []
      : [
          table([
            ['DEADLINE', 'DUE'],
            ...deadlines.map((deadline) => [deadline.name, `${deadline.due_at}, ${fromNow(deadline.due_at)}`]),
          ]),
        ]),
  ];
  return `\n${blocks.join('\n\n')}`;
}
