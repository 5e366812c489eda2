/** Values as people read them: tables, spans of time, states. */
import { stripVTControlCharacters } from 'node:util';
import type { ReservationView } from '../http/reservation-view.ts';

/** Text without anything that a terminal would obey, but for line breaks. */
export function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it removes.
  return stripVTControlCharacters(text).replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, ' ');
}

/** Columns as wide as their widest cell, two blanks apart. The first row is the head. */
export function table(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map((cell) => clean(cell).replaceAll('\n', ' ')));
  const widths = (cells[0] ?? []).map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** A span like `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`. */
export function span(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1_000));
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, '0')} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A moment seen from now: `in 3 h 05 min`, `12 min ago`. */
export function fromNow(moment: string, now = Date.now()): string {
  const distance = Date.parse(moment) - now;
  return distance >= 0 ? `in ${span(distance)}` : `${span(-distance)} ago`;
}

/** A local time of day, with the local date if it is another day: `23:10`, `2026-03-01 00:40`. */
export function clock(moment: string, now = new Date()): string {
  const date = new Date(moment);
  const time = date.toTimeString().slice(0, 5);
  if (date.toDateString() === now.toDateString()) return time;
  const two = (part: number): string => String(part).padStart(2, '0');
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}

/** `running.serving`, `queued.capacity`, `failed`. */
export function path(view: Pick<ReservationView, 'state' | 'substate'>): string {
  return view.substate === null ? view.state : `${view.state}.${view.substate}`;
}

/** What was reserved: `2 × h100`, `cpu-x86`. */
export function what(view: Pick<ReservationView, 'gpu_count' | 'gpu_type'>): string {
  return view.gpu_count === 0 ? view.gpu_type : `${view.gpu_count} × ${view.gpu_type}`;
}

const ENDED = new Set(['expired', 'failed', 'cancelled']);

export function hasEnded(view: Pick<ReservationView, 'state'>): boolean {
  return ENDED.has(view.state);
}

/** The state in one line: path, place in the line, what happens now; with `countdown`, how long it will run. */
export function summary(view: ReservationView, countdown = true): string {
  const parts = [path(view)];
  if (view.position !== null) {
    parts.push(`place ${view.position}${view.estimated_start === null ? '' : `, start about ${clock(view.estimated_start)}`}`);
  }
  if (view.detail !== null && view.detail !== '') parts.push(clean(view.detail));
  if (view.waits_because !== null) parts.push(clean(view.waits_because));
  if ((view.state === 'running' || view.state === 'extending') && view.expires_at !== null) {
    parts.push(countdown ? `ends ${fromNow(view.expires_at)}` : `ends at ${clock(view.expires_at)}`);
  }
  return parts.join(' · ');
}
