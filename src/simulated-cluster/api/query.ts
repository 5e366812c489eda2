import { badRequest } from '../errors.ts';
import type { Query } from '../types.ts';

/** The first value of a query parameter. */
export function one(query: Query | undefined, name: string): string | undefined {
  const value = query?.[name];
  return Array.isArray(value) ? value[0] : value;
}

export function flag(query: Query | undefined, name: string): boolean {
  const value = one(query, name);
  return value === 'true' || value === '1';
}

/** A whole number not below 0; 400 for anything else. */
export function count(query: Query | undefined, name: string): number | undefined {
  const value = one(query, name);
  if (value === undefined || value === '') return undefined;
  const number = Number(value);
  if (!Number.isInteger(number) || number < 0) throw badRequest(`invalid value for ${name}: ${JSON.stringify(value)}`);
  return number;
}
