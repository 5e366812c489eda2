// The files of the project, as the tests about the project itself see them.
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The top folder of the project. */
export const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** A text file: its path from the top folder, with forward slashes, and its content. */
export type ProjectFile = { readonly path: string; readonly text: string };

/** A place in a file that breaks a rule. */
export type Finding = { readonly path: string; readonly line: number; readonly what: string };

// What .gitignore ignores, and git itself.
const NOT_OURS = new Set(['node_modules', '.git', '.gpu-dev', 'coverage', 'dist', '.terraform']);
const TEXT = new Set([
  '',
  '.ts',
  '.tsx',
  '.js',
  '.mjs',
  '.json',
  '.sql',
  '.md',
  '.sh',
  '.yaml',
  '.yml',
  '.html',
  '.css',
  '.tf',
  '.toml',
]);

/** Every text file of the project; with extensions ('.ts'), only those. */
export function projectFiles(...extensions: string[]): ProjectFile[] {
  const found: ProjectFile[] = [];
  const visit = (folder: string) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) {
        if (!NOT_OURS.has(entry.name) && !entry.name.startsWith('.gpu-dev')) visit(path);
      } else if (entry.isFile()) {
        const extension = extname(entry.name);
        if (!TEXT.has(extension) || (extensions.length > 0 && !extensions.includes(extension))) continue;
        found.push({ path: relative(ROOT, path).replaceAll('\\', '/'), text: readFileSync(path, 'utf8') });
      }
    }
  };
  visit(ROOT);
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Findings as lines that an editor can jump to; an empty list when all is well. */
export function asLines(findings: readonly Finding[]): string[] {
  return findings.map(({ path, line, what }) => `${path}:${line}: ${what}`);
}

/** Calls `check` for every line with its number from 1 on. */
export function findInLines(file: ProjectFile, check: (line: string) => string | undefined): Finding[] {
  return file.text.split('\n').flatMap((line, index) => {
    const what = check(line);
    return what === undefined ? [] : [{ path: file.path, line: index + 1, what }];
  });
}
