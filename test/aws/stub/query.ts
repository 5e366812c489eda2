/** EC2's query protocol: forms in, XML out. */

/** A form as EC2 reads it: `Filter.1.Value.2` is a list within a list. */
export class Form {
  readonly #fields: URLSearchParams;
  constructor(body: string) {
    this.#fields = new URLSearchParams(body);
  }
  get action(): string {
    return this.text('Action') ?? '';
  }
  text(name: string): string | null {
    return this.#fields.get(name);
  }
  number(name: string): number | null {
    const value = this.text(name);
    return value === null ? null : Number(value);
  }
  /** `Name.1`, `Name.2`, ... */
  list(name: string): string[] {
    const found: string[] = [];
    for (let index = 1; ; index += 1) {
      const value = this.text(`${name}.${index}`);
      if (value === null) return found;
      found.push(value);
    }
  }
  /** Names and values of `Filter.N`. */
  filters(): { name: string; values: string[] }[] {
    const found: { name: string; values: string[] }[] = [];
    for (let index = 1; ; index += 1) {
      const name = this.text(`Filter.${index}.Name`);
      if (name === null) return found;
      found.push({ name, values: this.list(`Filter.${index}.Value`) });
    }
  }
  tags(prefix: string): Map<string, string> {
    const found = new Map<string, string>();
    for (let index = 1; ; index += 1) {
      const key = this.text(`${prefix}.${index}.Key`);
      if (key === null) return found;
      found.set(key, this.text(`${prefix}.${index}.Value`) ?? '');
    }
  }
}

type Value = string | number | boolean | readonly Value[] | { [name: string]: Value };

/** Lists become `<item>`s, as EC2 has them. */
export function xml(name: string, value: Value): string {
  if (Array.isArray(value)) return `<${name}>${value.map((each: Value) => xml('item', each)).join('')}</${name}>`;
  if (typeof value === 'object') {
    const inside = Object.entries(value as { [name: string]: Value }).map(([key, each]) => xml(key, each));
    return `<${name}>${inside.join('')}</${name}>`;
  }
  return `<${name}>${String(value).replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</${name}>`;
}

export function refusalXml(code: string, message: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>${xml('Response', { Errors: { Error: { Code: code, Message: message } }, RequestID: 'stub' })}`;
}
