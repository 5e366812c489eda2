/** `gpu-dev admin dead-letters`, `replay`, `drop`, `effects`, `retry`, `quarantine`, `unquarantine`: what went wrong, and what to do about it. */
import type { Command } from 'commander';
import { v7 as uuidv7 } from 'uuid';
import { contextOf } from './context.ts';
import { CliError, EXIT } from './exit.ts';
import { fromNow, table } from './format.ts';
import type { Surroundings } from './surroundings.ts';

interface Letter {
  id: number;
  source: string;
  queue: string | null;
  msg_id: number | null;
  actor: string | null;
  key: string | null;
  code: string;
  reason: string;
  created_at: string;
  body: unknown;
  resolved: string | null;
  resolved_by: string | null;
  resolution: string | null;
  replayed_as: string | null;
}

interface Effect {
  effect_id: string;
  type: string;
  status: string;
  attempts: number;
  next_at: string;
  running: boolean;
  last_error: string | null;
}

const LETTERS = '/v1/admin/dead-letters';

export function registerLetters(admin: Command, surroundings: Surroundings): void {
  admin
    .command('dead-letters')
    .option('--all', 'with those that were dealt with')
    .option('--code <code>', 'of this code only')
    .option('--actor <kind/id>', 'of this actor only')
    .description('what could not be understood or processed')
    .action(async (options: { all?: boolean; code?: string; actor?: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      const query = { state: options.all === true ? 'all' : 'open', code: options.code, actor: options.actor, limit: 500 };
      const answer = await context.client.get<{ dead_letters: Letter[] }>(LETTERS, query);
      context.give(answer);
      context.say(answer.dead_letters.length === 0 ? 'There are no open dead letters.' : letters(answer.dead_letters));
    });
  admin
    .command('dead-letter')
    .argument('<id>', 'as the list shows it')
    .description('one of them in full, with secrets masked')
    .action(async (id: string, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const letter = await context.client.get<Letter>(`${LETTERS}/${numberOf(id)}`);
      context.give(letter);
      context.say(letters([letter]));
      context.say(JSON.stringify(letter.body, null, 2));
      if (letter.resolved !== null) context.say(ending(letter));
    });
  admin
    .command('replay')
    .argument('<id...>', 'dead letters, as the list shows them')
    .option('--reason <text>', 'why it will work now')
    .description('send them on their way again: messages as they were sent, effects once more')
    .action(async (ids: string[], { reason }: { reason?: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      const done: Letter[] = [];
      for (const id of ids.map(numberOf)) {
        const letter = (await context.client.post<Letter>(`${LETTERS}/${id}/replay`, { reason: reason ?? null }, uuidv7())).body;
        done.push(letter);
        context.say(ending(letter));
      }
      context.give({ dead_letters: done });
    });
  admin
    .command('drop')
    .argument('<id...>', 'dead letters, as the list shows them')
    .requiredOption('--reason <text>', 'why they need nothing more')
    .description('close dead letters that need nothing')
    .action(async (ids: string[], { reason }: { reason: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      const done: Letter[] = [];
      for (const id of ids.map(numberOf)) {
        const letter = (await context.client.post<Letter>(`${LETTERS}/${id}/drop`, { reason }, uuidv7())).body;
        done.push(letter);
        context.say(ending(letter));
      }
      context.give({ dead_letters: done });
    });
  admin
    .command('effects')
    .option('--failed', 'those that were given up, instead of those that wait for their next try')
    .option('--actor <kind/id>', 'of this actor only')
    .description('work outside the database that does not succeed')
    .action(async (options: { failed?: boolean; actor?: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      const query = { status: options.failed === true ? 'failed' : 'pending', actor: options.actor, limit: 500 };
      const answer = await context.client.get<{ effects: Effect[] }>('/v1/admin/effects', query);
      context.give(answer);
      context.say(answer.effects.length === 0 ? 'There are none.' : effects(answer.effects));
    });
  admin
    .command('retry')
    .argument('<effect>', 'as `admin effects` or a history shows it')
    .option('--reason <text>', 'why it will work now')
    .description('try an effect now: one that waits, or one that was given up and is still wanted')
    .action(async (effect: string, { reason }: { reason?: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      const wish = { effect_id: effect, reason: reason ?? null };
      const { body } = await context.client.post<{ effect_id: string }>('/v1/admin/effects/retry', wish, uuidv7());
      context.give(body);
      context.say(`It is tried now, as ${body.effect_id}.`);
    });
  admin
    .command('quarantine')
    .description('actors that were set aside, since their snapshot cannot be revived')
    .action(async (_options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      type Aside = { actor: string; reason: string; since: string; mail: number };
      const answer = await context.client.get<{ actors: Aside[] }>('/v1/admin/quarantine', { limit: 500 });
      context.give(answer);
      const rows = answer.actors.map(({ actor, since, mail, reason }) => [actor, fromNow(since), String(mail), reason]);
      context.say(rows.length === 0 ? 'No actor is set aside.' : table([['ACTOR', 'SINCE', 'MAIL', 'REASON'], ...rows]));
    });
  admin
    .command('unquarantine')
    .argument('<actor>', 'kind/id')
    .option('--reason <text>', 'what was mended')
    .description('let an actor go on that was set aside')
    .action(async (actor: string, { reason }: { reason?: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      const wish = { actor, reason: reason ?? null };
      const { body } = await context.client.post<{ mail: number }>('/v1/admin/quarantine/release', wish, uuidv7());
      context.give(body);
      context.say(`${actor} goes on, with ${body.mail} ${body.mail === 1 ? 'message' : 'messages'} that waited.`);
    });
}

function letters(rows: readonly Letter[]): string {
  const from = (row: Letter) => row.actor ?? `${row.queue ?? row.source} ${row.msg_id ?? ''}`.trim();
  return table([
    ['ID', 'WHEN', 'FROM', 'CODE', 'STATE', 'REASON'],
    ...rows.map((row) => [String(row.id), fromNow(row.created_at), from(row), row.code, row.resolved ?? 'open', row.reason]),
  ]);
}

function ending({ id, resolved, resolved_by, resolution, replayed_as }: Letter): string {
  const as = replayed_as === null ? '' : ` as ${replayed_as}`;
  return `${id} was ${resolved} by ${resolved_by ?? 'an operator'}${as}${resolution === null ? '' : `: ${resolution}`}.`;
}

function effects(rows: readonly Effect[]): string {
  const next = (row: Effect) => (row.running ? 'now' : row.status === 'pending' ? fromNow(row.next_at) : 'never');
  return table([
    ['EFFECT', 'TYPE', 'TRIES', 'NEXT', 'LAST ERROR'],
    ...rows.map((row) => [row.effect_id, row.type, String(row.attempts), next(row), row.last_error ?? '']),
  ]);
}

function numberOf(id: string): number {
  if (/^\d{1,15}$/.test(id)) return Number(id);
  throw new CliError(EXIT.usage, `${id} is no number of a dead letter. See gpu-dev admin dead-letters.`);
}
