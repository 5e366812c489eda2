/** Short ways to talk to lamps, and a stranger: somebody beside the program who locks rows and holds them. */
import pg from 'pg';
import type { Kernel } from '../../../actors/kernel/kernel.ts';
import { findActor } from '../../../persistence/actor-store.ts';
import type { Queryable } from '../../../persistence/database.ts';
import type { Message } from '../../../persistence/mailbox.ts';
import type { TestDatabase } from '../../support/postgres.ts';

export function made(id: string): Message {
  return { actor: `lamp/${id}`, key: 'birth', event: { type: 'lamp.made', name: id } as { type: string }, sender: 'test' };
}

export function press(id: string, key = 'p'): Message {
  return { actor: `lamp/${id}`, key, event: { type: 'press' }, sender: 'test' };
}

/** The lamp presses another. */
export function passOn(id: string, to: string, key = 'x'): Message {
  return { actor: `lamp/${id}`, key, event: { type: 'passOn', to: `lamp/${to}` } as { type: string }, sender: 'test' };
}

/** Lamps that stand in the dark. */
export async function make(kernel: Kernel, ids: readonly string[]): Promise<void> {
  await kernel.post(ids.map(made));
  while ((await kernel.takeTurns()) > 0);
}

/** Top-level states, in the order of the ids. */
export function statesOf(db: Queryable, ids: readonly string[]): Promise<(string | null | undefined)[]> {
  return Promise.all(ids.map(async (id) => (await findActor(db, `lamp/${id}`))?.state));
}

/** Actors of dead letters, in order. */
export async function lettersOf(db: Queryable): Promise<string[]> {
  return (await db.query<{ actor: string }>('select actor from dead_letters order by id')).rows.map(({ actor }) => actor);
}

/** A session that has locked what this statement selects, and sits there until it is ended. */
export async function strangerWith(test: TestDatabase, statement: string, values: unknown[] = []): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: test.url });
  await client.connect();
  await client.query('begin');
  await client.query(statement, values);
  return client;
}

export const MAIL_OF = 'select 1 from mailbox where actor = any($1::text[]) for update';
