// Log files of processes that may outlive us: they write to files, never into a pipe of ours that could break.
import { closeSync, copyFileSync, existsSync, openSync, readdirSync, readSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';

const MOST_BYTES = 8 * 1024 * 1024;

/** The last lines of a file, or an empty list. Reads at most 64 KiB of it. */
export function lastLines(file: string, count: number): string[] {
  if (!existsSync(file)) return [];
  const size = statSync(file).size;
  const length = Math.min(size, 64 * 1024);
  const buffer = Buffer.alloc(length);
  const descriptor = openSync(file, 'r');
  try {
    readSync(descriptor, buffer, 0, length, size - length);
  } finally {
    closeSync(descriptor);
  }
  const lines = buffer.toString('utf8').split('\n');
  return lines.filter((line) => line.trim() !== '').slice(-count);
}

/**
 * Bounds every log of a folder: one that grew past the limit is copied to NAME.1, over the older copy, and emptied. Its writer appends,
 * so it goes on at the start; the lines of the instant between copy and cut are lost.
 */
export function boundLogs(folder: string, mostBytes: number = MOST_BYTES): void {
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const file = join(folder, name);
    if (name.endsWith('.1') || statSync(file).size <= mostBytes) continue;
    copyFileSync(file, `${file}.1`);
    truncateSync(file);
  }
}
