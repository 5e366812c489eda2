/** Every event type of a closed union, with values of the right kind: for tests that send all there is. */
import type { z } from 'zod';

// biome-ignore lint/suspicious/noExplicitAny: this walks the library's own description of a schema.
type Any = any;

/** One value that the schema accepts. */
function sample(schema: Any): unknown {
  const def = schema._zod.def;
  switch (def.type) {
    case 'object':
      return Object.fromEntries(Object.entries(def.shape).map(([key, inner]) => [key, sample(inner)]));
    case 'literal':
      return def.values[0];
    case 'enum':
      return Object.values(def.entries)[0];
    case 'number':
      return 1;
    case 'boolean':
      return true;
    case 'array':
      return [];
    case 'record':
      return {};
    case 'nullable':
    case 'optional':
      return def.type === 'nullable' ? null : sample(def.innerType);
    case 'string':
      if (def.format === 'uuid') return '00000000-0000-4000-8000-000000000000';
      if (def.format === 'datetime') return '2026-11-20T10:00:00.000Z';
      return 'x';
    default:
      throw new Error(`No sample for ${def.type}`);
  }
}

/** One event of every type in the union. */
export function oneOfEach(union: z.ZodType): { type: string; [key: string]: unknown }[] {
  const def = (union as Any)._zod.def;
  if (def.type === 'union') return def.options.flatMap((option: z.ZodType) => oneOfEach(option));
  const event = sample(union) as { type: string };
  const type = def.shape.type._zod.def;
  const names: string[] = type.type === 'enum' ? Object.values(type.entries) : [event.type];
  return names.map((name) => ({ ...event, type: name }));
}
