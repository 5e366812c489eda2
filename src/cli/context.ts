/** One run of a command: its options, the service, and where to write. */
import type { Command } from 'commander';
import { Client } from './client.ts';
import { clean } from './format.ts';
import { Session } from './session.ts';
import { type CommonOptions, type Output, type Surroundings, urlOf } from './surroundings.ts';

export interface Context {
  surroundings: Surroundings;
  client: Client;
  session: Session;
  /** True: stdout carries JSON and nothing else. */
  json: boolean;
  /** A line for people, on stdout; nothing under --json. What servers and users wrote is made harmless to terminals. */
  say(text: string): void;
  /** The result for programs, on stdout; nothing without --json. */
  give(result: unknown): void;
  err: Output;
}

/** The context of a command that runs. */
export function contextOf(surroundings: Surroundings, command: Command): Context {
  const options = command.optsWithGlobals<CommonOptions>();
  const json = options.json === true;
  const base = urlOf(surroundings, options);
  const session = new Session(surroundings, options, base);
  return {
    surroundings,
    client: new Client(base, session, surroundings.interrupted),
    session,
    json,
    say: (text) => void (json || surroundings.out.write(`${clean(text)}\n`)),
    give: (result) => void (json && surroundings.out.write(`${JSON.stringify(result, null, 2)}\n`)),
    err: surroundings.err,
  };
}
