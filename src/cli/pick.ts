/** Which reservation is meant: the one that is named, or the only live one. */
import type { ReservationView } from '../http/reservation-view.ts';
import type { Context } from './context.ts';
import { CliError, EXIT } from './exit.ts';
import { path, what } from './format.ts';

interface Page {
  reservations: ReservationView[];
  next_cursor: string | null;
}

/** The user's reservations that have not ended, newest first. */
export async function liveReservations(context: Context): Promise<ReservationView[]> {
  const page = await context.client.get<Page>('/v1/reservations', { status: 'live', limit: 100 });
  return page.reservations;
}

/**
 * The id that is meant: what was typed, or the only live reservation.
 * @throws CliError: there is none, or there are several (with the choices).
 */
export async function pick(context: Context, typed: string | undefined): Promise<string> {
  if (typed !== undefined) return encodeURIComponent(typed);
  const live = await liveReservations(context);
  if (live.length === 1) return live[0]!.id;
  if (live.length === 0) {
    throw new CliError(
      EXIT.notFound,
      `${await context.client.user()} has no live reservation. Make one with gpu-dev reserve, or see gpu-dev list --all.`,
    );
  }
  const choices = live.map((view) => `  ${view.id}  ${view.name}  ${what(view)}  ${path(view)}`).join('\n');
  throw new CliError(EXIT.usage, `Which one? Name one of these by its id, or the beginning of it:\n${choices}`);
}
