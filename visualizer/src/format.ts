// Numbers and times as people read them.

const UNITS: [ms: number, name: string][] = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'min'],
  [1_000, 's'],
];

/** `2 h 5 min`: the two largest units. */
export function duration(ms: number): string {
  if (ms < 1_000) return ms < 100 ? `${Math.max(0, Math.round(ms))} ms` : `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  let rest = Math.round(ms / 1_000) * 1_000;
  const parts: string[] = [];
  for (const [size, name] of UNITS) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count} ${name}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(' ') || '0 s';
}

/** `in 5 min`, `3 h ago`. */
export function relative(iso: string, now: number): string {
  const away = Date.parse(iso) - now;
  if (Math.abs(away) < 1_000) return 'now';
  return away > 0 ? `in ${duration(away)}` : `${duration(-away)} ago`;
}

const seconds = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short' });

/** The time alone today, else with its day. */
export function moment(iso: string, now: number): string {
  const at = Date.parse(iso);
  const [from, to] = dayAround(now);
  return at >= from && at < to ? hourOf(at) : `${dayOf(at)} ${hourOf(at)}`;
}

let today: [from: number, to: number] = [0, 0];

/** Begin and end of the day of this moment, here. Asked for with each of thousands of bars, and kept. */
function dayAround(now: number): [from: number, to: number] {
  if (now >= today[0] && now < today[1]) return today;
  const date = new Date(now);
  const [year, month, on] = [date.getFullYear(), date.getMonth(), date.getDate()];
  today = [new Date(year, month, on).getTime(), new Date(year, month, on + 1).getTime()];
  return today;
}

export const exact = (iso: string): string => `${day.format(new Date(iso))} ${seconds.format(new Date(iso))}`;
export const timeOf = (iso: string): string => seconds.format(new Date(iso));
export const dayOf = (ms: number): string => day.format(new Date(ms));

/** `07:05` */
export function hourOf(ms: number): string {
  const date = new Date(ms);
  return `${String(date.getHours()).padStart(2, '0')}:${String(date.getMinutes()).padStart(2, '0')}`;
}

/** The last part of an id is the one that differs. */
export const shortId = (id: string): string => (id.length === 36 ? id.slice(0, 8) : id);

const whole = new Intl.NumberFormat('en');

/** `1,204`, `12.4k`. */
export function count(value: number): string {
  if (value < 1_000) return String(value);
  if (value < 10_000) return whole.format(value);
  return value < 1_000_000 ? `${(value / 1_000).toFixed(value < 100_000 ? 1 : 0)}k` : `${(value / 1_000_000).toFixed(1)}M`;
}

/** Of what happens in a minute. */
export function rate(value: number): string {
  return value >= 10 || Number.isInteger(value) ? count(Math.round(value)) : value.toFixed(1);
}

export function gigabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.round(bytes / 1e6)} MB`;
}
