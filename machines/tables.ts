/** Binds the pure tables of a kind, its assignments and its guards, to the names that its chart uses. */
import { assign, type EventObject } from 'xstate';

type Table<C, E, Result> = Record<string, (context: C, event: E) => Result>;

/** One assign action for each entry of a table of changes. */
export function assignsOf<C extends object, E extends EventObject, Name extends string>(
  table: Table<C, E, Partial<C>> & Record<Name, unknown>,
) {
  const bind = (change: (context: C, event: E) => Partial<C>) =>
    assign<C, E, undefined, E, never>(({ context, event }) => change(context, event));
  const entries = Object.entries(table as Table<C, E, Partial<C>>).map(([name, change]) => [name, bind(change)]);
  return Object.fromEntries(entries) as Record<Name, ReturnType<typeof bind>>;
}

/** One guard for each entry of a table of checks. */
export function guardsOf<C, E, Name extends string>(table: Table<C, E, boolean> & Record<Name, unknown>) {
  type Guard = (args: { context: C; event: E }) => boolean;
  const bind =
    (check: (context: C, event: E) => boolean): Guard =>
    ({ context, event }) =>
      check(context, event);
  const entries = Object.entries(table as Table<C, E, boolean>).map(([name, check]) => [name, bind(check)]);
  return Object.fromEntries(entries) as Record<Name, Guard>;
}
