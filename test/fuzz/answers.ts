// Whether an answer is one of those that the API's own description promises.
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import type { Description, Endpoint } from './requests.ts';
import type { Schema } from './values.ts';

type Validate = ((value: unknown) => boolean) & { errors?: unknown };

interface Compiler {
  compile(schema: object): Validate;
  errorsText(errors: unknown): string;
}

export class Answers {
  readonly #ajv: Compiler;
  readonly #description: Description;
  readonly #compiled = new Map<string, Validate | null>();

  constructor(description: Description) {
    this.#description = description;
    const ajv = new Ajv2020.default({ strict: false, allErrors: false });
    addFormats.default(ajv);
    this.#ajv = ajv as unknown as Compiler;
  }

  /** @returns what is wrong with it; null if nothing is */
  problemOf(
    endpoint: Endpoint,
    answer: { statusCode: number; headers: Record<string, unknown>; payload: string },
  ): string | null {
    const { statusCode: status, headers, payload } = answer;
    if (status >= 500) return `answers ${status}: ${payload.slice(0, 500)}`;
    const type = String(headers['content-type'] ?? '').split(';', 1)[0]!;
    if (status >= 400 && type !== 'application/problem+json')
      return `answers ${status} as ${type || 'nothing'}: ${payload.slice(0, 200)}`;
    const promised = endpoint.operation.responses?.[status];
    if (promised === undefined) return `answers ${status}, which its description does not promise: ${payload.slice(0, 300)}`;
    const schema =
      promised.content?.[type]?.schema ?? (type.endsWith('json') ? promised.content?.['application/json']?.schema : undefined);
    if (schema === undefined || payload === '') return null;
    const validate = this.#validatorOf(`${endpoint.name} ${status} ${type}`, schema);
    const value: unknown = JSON.parse(payload);
    if (validate === null || validate(value)) return null;
    return `answers ${status} with what does not fit its schema: ${this.#ajv.errorsText(validate.errors)}: ${payload.slice(0, 500)}`;
  }

  #validatorOf(name: string, schema: Schema): Validate | null {
    let found = this.#compiled.get(name);
    if (found === undefined) {
      const components = { components: this.#description.components ?? {} };
      found = this.#ajv.compile({ ...components, ...schema });
      this.#compiled.set(name, found);
    }
    return found;
  }
}
