import type { Loose, SideOperation } from './types.ts';

/** How many lines a log keeps; older ones go. */
const APPEND_LIMIT = 5000;

/** Named tables of JSON for what the API does not show as objects. Every write is also recorded for the journal. */
export class SideTables {
  private readonly tables = new Map<string, Map<string, Loose>>();
  private readonly record: (operation: SideOperation) => void;

  constructor(record: (operation: SideOperation) => void) {
    this.record = record;
  }

  get(table: string, key: string): Loose | undefined {
    return this.tables.get(table)?.get(key);
  }

  keys(table: string): string[] {
    return [...(this.tables.get(table)?.keys() ?? [])];
  }

  entries(table: string): [string, Loose][] {
    return [...(this.tables.get(table)?.entries() ?? [])];
  }

  set(table: string, key: string, value: Loose): void {
    this.do({ op: 'set', table, key, value });
  }

  delete(table: string, key: string): void {
    if (this.tables.get(table)?.has(key)) this.do({ op: 'delete', table, key });
  }

  append(table: string, key: string, value: Loose): void {
    this.do({ op: 'append', table, key, value });
  }

  drop(table: string): void {
    if (this.tables.has(table)) this.do({ op: 'drop', table });
  }

  /** All tables as operations that rebuild them. */
  *dump(): Generator<SideOperation> {
    for (const [table, rows] of this.tables) for (const [key, value] of rows) yield { op: 'set', table, key, value };
  }

  /** Applies an operation read from disk, without recording it again. */
  apply(operation: SideOperation): void {
    const { table } = operation;
    if (operation.op === 'drop') {
      this.tables.delete(table);
      return;
    }
    let rows = this.tables.get(table);
    if (operation.op === 'delete') {
      rows?.delete(operation.key);
      if (rows?.size === 0) this.tables.delete(table);
      return;
    }
    if (rows === undefined) {
      rows = new Map();
      this.tables.set(table, rows);
    }
    if (operation.op === 'set') rows.set(operation.key, operation.value);
    else {
      const list: Loose[] = rows.get(operation.key) ?? [];
      list.push(operation.value);
      if (list.length > APPEND_LIMIT) list.splice(0, list.length - APPEND_LIMIT);
      rows.set(operation.key, list);
    }
  }

  private do(operation: SideOperation): void {
    this.apply(operation);
    this.record(operation);
  }
}
