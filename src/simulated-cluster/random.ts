/** A small seeded generator (sfc32) whose whole state is four numbers, so that it can be stored and revived. */
export interface Random {
  /** A number in [0, 1). */
  next(): number;
  /** An integer in [0, bound). */
  integer(bound: number): number;
  /** Lower-case letters and digits without vowels, as Kubernetes' own name suffixes. */
  suffix(length: number): string;
  /** A version 4 UUID. */
  uuid(): string;
  state(): number[];
}

const SUFFIX_ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';

const BYTES = Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, '0'));

/** The four starting words for a seed. */
export function seedState(seed: number): number[] {
  return [seed | 0, (seed ^ 0x9e3779b9) | 0, (seed ^ 0x85ebca6b) | 0, 1];
}

/** A generator that continues from `state`; same state, same numbers. */
export function createRandom(state: number[], warmUp = false): Random {
  let [a = 0, b = 0, c = 0, d = 1] = state;
  const word = (): number => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return t >>> 0;
  };
  if (warmUp) for (let i = 0; i < 12; i++) word();
  const integer = (bound: number): number => Math.floor((word() / 0x1_0000_0000) * bound);
  const hex = (): string => {
    const value = word();
    return `${BYTES[value >>> 24]}${BYTES[(value >>> 16) & 255]}${BYTES[(value >>> 8) & 255]}${BYTES[value & 255]}`;
  };
  return {
    next: () => word() / 0x1_0000_0000,
    integer,
    suffix: (length) => Array.from({ length }, () => SUFFIX_ALPHABET[integer(SUFFIX_ALPHABET.length)]).join(''),
    uuid() {
      const [w, x, y, z] = [hex(), hex(), hex(), hex()];
      const variant = '89ab'[parseInt(y.slice(0, 1), 16) & 3];
      return `${w}-${x.slice(0, 4)}-4${x.slice(5)}-${variant}${y.slice(1, 4)}-${y.slice(4)}${z}`;
    },
    state: () => [a, b, c, d],
  };
}
