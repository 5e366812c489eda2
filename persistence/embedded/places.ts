// Where an embedded Postgres lives, and as whom it runs. Postgres refuses uid 0, and its own user cannot enter root's home.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** Folders and files of one embedded Postgres. `owner` is set when it must run as another user than we do. */
export type Places = {
  /** What was asked for: holds the password and the remembered port. */
  readonly home: string;
  /** Holds `data` and the server's log: `home` itself, or a folder under ROOT_FOLDER when we are root. */
  readonly folder: string;
  readonly data: string;
  readonly binaries: string;
  readonly log: string;
  readonly passwordFile: string;
  readonly stateFile: string;
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
};

/** Only used by root: a place that every user may pass through. */
export const ROOT_FOLDER = '/var/lib/gpu-dev';

/** The folder outside `home` that root's Postgres uses, or undefined for everyone else. It is safe to delete with `home`. */
export function folderOutsideHome(home: string): string | undefined {
  if (process.getuid?.() !== 0) return undefined;
  return join(ROOT_FOLDER, createHash('sha256').update(resolve(home)).digest('hex').slice(0, 16));
}

/** The places for `home`, without touching the disk. */
export function placesOf(home: string, logFile?: string): Omit<Places, 'owner'> {
  const at = resolve(home);
  const outside = folderOutsideHome(at);
  const folder = outside ?? at;
  return {
    home: at,
    folder,
    data: join(folder, 'data'),
    // Root's copy is shared by all instances on the machine; another user has nowhere to share it.
    binaries: join(outside === undefined ? at : ROOT_FOLDER, 'binaries'),
    log: logFile ?? join(at, 'postgres.log'),
    passwordFile: join(at, 'password'),
    stateFile: join(at, 'postgres.json'),
  };
}

/** The places for `home`, made ready: folders exist, and as root the user postgres does too. Throws what to do otherwise. */
export function preparePlaces(home: string, logFile?: string): Places {
  const places = placesOf(home, logFile);
  mkdirSync(places.home, { recursive: true, mode: 0o700 });
  if (places.folder === places.home) return { ...places, owner: undefined };
  const owner = postgresUser();
  try {
    mkdirSync(places.folder, { recursive: true, mode: 0o755 });
    mkdirSync(places.binaries, { recursive: true, mode: 0o755 });
    // A strict umask would close the way that the other user has to go.
    for (const folder of [ROOT_FOLDER, places.binaries]) chmodSync(folder, 0o755);
    chmodSync(places.folder, 0o700);
    chownSync(places.folder, owner.uid, owner.gid);
    writeFileSync(join(places.folder, 'belongs-to'), `${places.home}\n`);
  } catch (error) {
    throw new Error(
      `as root, the embedded Postgres needs to write to ${ROOT_FOLDER}: ${(error as Error).message}. ` +
        'Run as an ordinary user, or use a server of your own with --database external.',
      { cause: error },
    );
  }
  return { ...places, owner };
}

/** Postgres must not run as root: it gets the user `postgres`, made when it is missing. */
function postgresUser(): { uid: number; gid: number } {
  const known = lookUp('postgres');
  if (known !== undefined) return known;
  const attempts: [string, string[]][] = [
    ['useradd', ['--system', '--user-group', '--no-create-home', '--home-dir', ROOT_FOLDER, '--shell', '/bin/false', 'postgres']],
    ['adduser', ['-S', '-D', '-H', '-h', ROOT_FOLDER, '-s', '/bin/false', 'postgres']],
  ];
  for (const [command, args] of attempts) {
    try {
      execFileSync(command, args, { stdio: 'ignore' });
    } catch {
      // Not on this system, or not allowed: the check below decides.
    }
    const made = lookUp('postgres');
    if (made !== undefined) return made;
  }
  throw new Error(
    'Postgres refuses to run as root, and a user for it could not be made. Make one (useradd --system postgres), ' +
      'run as an ordinary user, or use a server of your own with --database external.',
  );
}

function lookUp(name: string): { uid: number; gid: number } | undefined {
  if (!existsSync('/etc/passwd')) return undefined;
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const fields = line.split(':');
    if (fields[0] === name) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  return undefined;
}
