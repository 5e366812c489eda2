// PGMQ's SQL ships in an npm package made for another engine; the files inside are the extension's own, unchanged.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';

/** The PGMQ release inside the archive. */
export const PGMQ_VERSION = '1.11.1';

/** One file of the extension: its name without folders, and its text. */
export type ExtensionFile = { readonly name: string; readonly text: string };

/** All files of the PGMQ extension (control file, install script, upgrade scripts). Throws when the package is not installed. */
export function pgmqExtensionFiles(): readonly ExtensionFile[] {
  const entry = createRequire(import.meta.url).resolve('@electric-sql/pglite-pgmq');
  const tar = gunzipSync(readFileSync(join(dirname(entry), 'pgmq.tar.gz')));
  const files: ExtensionFile[] = [];
  // A tar archive: 512-byte headers (name at 0, octal size at 124, type at 156), each followed by its padded content.
  for (let at = 0; at + 512 <= tar.length; ) {
    const path = tar.toString('utf8', at, at + 100).replace(/\0.*$/s, '');
    if (path === '') break;
    const size = Number.parseInt(tar.toString('latin1', at + 124, at + 136), 8);
    const isFile = tar[at + 156] === 0x30 || tar[at + 156] === 0;
    if (isFile && /\/extension\/pgmq[^/]*$/.test(path)) {
      files.push({ name: path.slice(path.lastIndexOf('/') + 1), text: tar.toString('utf8', at + 512, at + 512 + size) });
    }
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}

/** The text of PGMQ's install script for the release we ship. */
export function pgmqInstallScript(): string {
  const name = `pgmq--${PGMQ_VERSION}.sql`;
  const script = pgmqExtensionFiles().find((file) => file.name === name);
  if (script === undefined) throw new Error(`the npm package with PGMQ does not hold ${name}: is its version the pinned one?`);
  return script.text;
}
