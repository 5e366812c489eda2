/** Kubernetes quantities ("250m", "16Gi", "1e3") as numbers. */

const FACTORS: Record<string, number> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** @returns the number, 0 for nothing or for what is no quantity: a foreign object must not stop the feed. */
export function quantity(text: string | number | null | undefined): number {
  if (typeof text === 'number') return text;
  const [, digits, suffix] = /^([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)$/.exec(text ?? '') ?? [];
  const factor = FACTORS[suffix ?? ''];
  const value = Number(digits) * (factor ?? Number.NaN);
  return Number.isFinite(value) ? value : 0;
}

/** Thousandths of a core. */
export const millis = (text: string | number | null | undefined): number => Math.round(quantity(text) * 1000);

export const bytes = (text: string | number | null | undefined): number => Math.round(quantity(text));

/** Bytes as a quantity, in the unit that people read where there is no remainder. */
export function quantityOf(size: number): string {
  return size % 2 ** 30 === 0 ? `${size / 2 ** 30}Gi` : String(size);
}
