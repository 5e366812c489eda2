/** `gpu-dev keys`: API keys for programs, and those one has. */
import { randomUUID } from 'node:crypto';
import { type Command, InvalidArgumentError } from 'commander';
import { contextOf } from './context.ts';
import { fromNow, table } from './format.ts';
import type { LoginAnswer } from './session.ts';
import type { Surroundings } from './surroundings.ts';

interface Key {
  id: number;
  key_prefix: string;
  description: string | null;
  scopes: string[];
  created_at: string;
  expires_at: string;
  last_used_at: string | null;
  revoked_at: string | null;
  current: boolean;
}

export function registerKeys(program: Command, surroundings: Surroundings): void {
  const keys = program.command('keys').description('API keys').helpCommand(false);

  keys
    .command('list')
    .description('your keys; the keys themselves are kept nowhere')
    .action(async (_options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const answer = await context.client.get<{ keys: Key[] }>('/v1/keys');
      context.give(answer);
      context.say(
        table([
          ['ID', 'KEY', 'MAY', 'ENDS', 'USED', 'FOR'],
          ...answer.keys.map((key) => [
            String(key.id),
            `${key.key_prefix}…${key.current ? ' (this)' : ''}`,
            key.scopes.join(','),
            key.revoked_at === null ? fromNow(key.expires_at) : 'revoked',
            key.last_used_at === null ? 'never' : fromNow(key.last_used_at),
            key.description ?? '',
          ]),
        ]),
      );
    });

  keys
    .command('create')
    .description('another key, for a program; it is shown once')
    .option('--scopes <list>', 'what it may do, separated by commas: read, reserve, disks, admin (default: as yours)')
    .option('--hours <hours>', 'how long it lives', hours)
    .option('--for <text>', 'what it is for')
    .action(async (options: { scopes?: string; hours?: number; for?: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      const wish = {
        ...(options.scopes === undefined ? {} : { scopes: options.scopes.split(',').map((scope) => scope.trim()) }),
        ...(options.hours === undefined ? {} : { ttl_hours: options.hours }),
        ...(options.for === undefined ? {} : { description: options.for }),
      };
      const { body } = await context.client.post<LoginAnswer>('/v1/keys', wish, randomUUID());
      context.give(body);
      context.say(`${body.api_key}\nIt ends ${fromNow(body.expires_at)}, and is not shown again.`);
    });

  keys
    .command('revoke')
    .argument('<id>', 'of the key, as gpu-dev keys list shows it')
    .description('end a key now')
    .action(async (id: string, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const { body } = await context.client.send<Key>('DELETE', `/v1/keys/${encodeURIComponent(id)}`);
      context.give(body);
      context.say(`${body.key_prefix}… is revoked.`);
    });

  keys
    .command('rotate')
    .description('a new key in the place of the present one, which ends; it is kept for this machine')
    .action(async (_options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const { body } = await context.client.post<LoginAnswer>('/v1/keys/rotate', { revoke: true }, randomUUID());
      const given = context.session.given;
      if (!given) context.session.keep(body, context.session.source, context.session.profile);
      context.give(given ? body : { ...body, api_key: undefined });
      context.say(
        given
          ? `${body.api_key}\nPut it in the place of GPU_DEV_API_KEY; it ends ${fromNow(body.expires_at)}.`
          : `Done; the new key ${body.key_prefix}… ends ${fromNow(body.expires_at)}.`,
      );
    });
}

function hours(text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('It must be a number of hours.');
}
