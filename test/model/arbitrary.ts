/** Arbitrary events of a closed union, straight from its zod schema, so that an event that is added tomorrow walks along. */
import fc from 'fast-check';
import type { z } from 'zod';
import type { Case } from './graph.ts';

interface Definition {
  type: string;
  format?: string;
  shape?: Record<string, z.ZodType>;
  options?: z.ZodType[];
  values?: unknown[];
  entries?: Record<string, string>;
  innerType?: z.ZodType;
  element?: z.ZodType;
  keyType?: z.ZodType;
  valueType?: z.ZodType;
}

const definitionOf = (schema: z.ZodType): Definition => (schema as unknown as { _zod: { def: Definition } })._zod.def;

/** Values for fields of that name: near enough to what an actor knows that some of them mean something to it. */
export type Known = Record<string, fc.Arbitrary<unknown>>;

/** One event of the union. Events of each type are equally likely. */
export function arbitraryEvent(union: z.ZodType, known: Known): fc.Arbitrary<Case> {
  const shapes = shapesOf(union);
  return fc.oneof(...shapes.map((shape) => arbitraryOf(shape, known) as fc.Arbitrary<Case>));
}

function shapesOf(schema: z.ZodType): z.ZodType[] {
  const { type, options } = definitionOf(schema);
  return type === 'union' ? options!.flatMap(shapesOf) : [schema];
}

/** @throws if the schema is of a kind that no event uses yet. */
function arbitraryOf(schema: z.ZodType, known: Known): fc.Arbitrary<unknown> {
  const definition = definitionOf(schema);
  switch (definition.type) {
    case 'object': {
      const fields = Object.entries(definition.shape!).map(([name, inner]) => [name, known[name] ?? arbitraryOf(inner, known)]);
      return fc
        .record(Object.fromEntries(fields) as Record<string, fc.Arbitrary<unknown>>, { noNullPrototype: true })
        .filter((value) => schema.safeParse(value).success);
    }
    case 'union':
      return fc.oneof(...definition.options!.map((option) => arbitraryOf(option, known)));
    case 'literal':
      return fc.constantFrom(...definition.values!);
    case 'enum':
      return fc.constantFrom(...Object.values(definition.entries!));
    case 'nullable':
      return fc.option(arbitraryOf(definition.innerType!, known), { nil: null, freq: 3 });
    case 'optional':
      return arbitraryOf(definition.innerType!, known);
    case 'array':
      return fc.array(arbitraryOf(definition.element!, known), { maxLength: 3 });
    case 'record':
      return fc.dictionary(
        fc.string({ minLength: 1, maxLength: 4 }).filter((name) => name !== '__proto__'),
        arbitraryOf(definition.valueType!, known),
        { maxKeys: 2, noNullPrototype: true },
      );
    case 'string':
      return definition.format === 'uuid' ? fc.uuid() : fc.string({ maxLength: 12 });
    case 'number':
      return fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer({ min: -1_000, max: 1_000_000 }));
    case 'boolean':
      return fc.boolean();
    case 'unknown':
      return fc.constant('unknown');
    default:
      throw new Error(`no arbitrary for a ${definition.type}`);
  }
}
