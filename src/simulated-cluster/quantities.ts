const BINARY: Record<string, number> = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60 };
const DECIMAL: Record<string, number> = { n: 1e-9, u: 1e-6, m: 1e-3, '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18 };
const PATTERN = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]?)|[eE]([+-]?\d+))$/;

/** The value of a Kubernetes quantity such as 500m, 64Gi or 2; NaN when it is none. */
export function parseQuantity(text: string | number | undefined): number {
  if (text === undefined) return 0;
  const value = known.get(text) ?? readQuantity(text);
  // Few are in use, and those all the time.
  if (known.size < 1_000) known.set(text, value);
  return value;
}

const known = new Map<string | number, number>();

function readQuantity(text: string | number): number {
  const match = PATTERN.exec(String(text));
  if (match === null) return Number.NaN;
  const [, digits = '0', suffix = '', exponent] = match;
  if (exponent !== undefined) return Number(digits) * 10 ** Number(exponent);
  return Number(digits) * (BINARY[suffix] ?? DECIMAL[suffix] ?? Number.NaN);
}

export type Amounts = Record<string, number>;

/** Numbers for a resource list such as requests or allocatable. */
export function parseAmounts(list: Record<string, string> | undefined): Amounts {
  const amounts: Amounts = {};
  for (const [name, quantity] of Object.entries(list ?? {})) amounts[name] = parseQuantity(quantity);
  return amounts;
}

/** Adds `amounts` to `total` in place, `sign` times. */
export function addAmounts(total: Amounts, amounts: Amounts, sign: 1 | -1 = 1): void {
  // Rounded to a thousandth: sums of milli-CPUs must not drift.
  for (const [name, value] of Object.entries(amounts))
    total[name] = Math.round(((total[name] ?? 0) + sign * value) * 1000) / 1000;
}

let latest = { second: Number.NaN, text: '' };

/** RFC 3339 in whole seconds, as in metadata and conditions. */
export function timestamp(now: number): string {
  const second = Math.floor(now / 1000);
  // Nearly every one that is asked for is of the present second.
  if (second !== latest.second) latest = { second, text: `${new Date(second * 1000).toISOString().slice(0, 19)}Z` };
  return latest.text;
}

/** A span of milliseconds as kubectl shows ages: 5s, 3m20s, 2d4h. */
export function humanDuration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  const pair = (big: number, unit: string, small: number, smallUnit: string): string =>
    small === 0 ? `${big}${unit}` : `${big}${unit}${small}${smallUnit}`;
  if (minutes < 10) return pair(minutes, 'm', seconds % 60, 's');
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return pair(hours, 'h', minutes % 60, 'm');
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (hours < 192) return pair(days, 'd', hours % 24, 'h');
  if (days < 365 * 2) return `${days}d`;
  return pair(Math.floor(days / 365), 'y', days % 365, 'd');
}

/** The age of a timestamp as kubectl shows it. */
export function age(text: string | undefined, now: number): string {
  return text === undefined || text === null ? '<unknown>' : humanDuration(now - Date.parse(text));
}
