/** Medians and percentiles. */

/** The middle value; the mean of the two middle ones of an even number. NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The smallest value that at least `percent` of all are not above. NaN of none. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  if (sorted.length === 0) return Number.NaN;
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]!;
}

/** The two percentiles that latencies are told by, rounded to a hundredth of a millisecond. */
export interface Percentiles {
  p50: number;
  p99: number;
}

export function percentilesOf(values: readonly number[]): Percentiles {
  return { p50: round(percentile(values, 50), 2), p99: round(percentile(values, 99), 2) };
}

/** Rounded to so many digits behind the point. */
export function round(value: number, digits = 0): number {
  const factor = 10 ** digits;
  return Math.round(value * factor) / factor;
}

/** Smallest, middle and largest, for people. */
export function spread(values: readonly number[], digits = 0): string {
  const show = (value: number) => String(round(value, digits));
  return `${show(median(values))} (${show(Math.min(...values))}-${show(Math.max(...values))})`;
}
