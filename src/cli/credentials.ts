/** Keys that were given to this user, in ~/.gpu-dev/credentials. A file that others could read is not believed. */
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { CliError, EXIT } from './exit.ts';
import type { Surroundings } from './surroundings.ts';

const StoredKey = z.object({
  /** Origin of the service. */
  url: z.string(),
  user: z.string(),
  api_key: z.string(),
  key_prefix: z.string(),
  expires_at: z.string(),
  ttl_hours: z.number(),
  /** How it was got, and can be got again. */
  source: z.enum(['aws', 'local']),
  /** The AWS profile of that login, if one was chosen: the next is by the same. */
  profile: z.string().nullish(),
});
/** A key with what is known of it. */
export type StoredKey = z.infer<typeof StoredKey>;

const File = z.object({ version: z.literal(1), keys: z.array(StoredKey) });

/** Where keys are kept: GPU_DEV_CREDENTIALS, or .gpu-dev/credentials in the user's home. */
export function credentialsFile({ environment }: Surroundings): string {
  return environment.GPU_DEV_CREDENTIALS || join(environment.HOME || homedir(), '.gpu-dev', 'credentials');
}

/**
 * All keys that are kept, the newest first.
 * @throws CliError if the file may be read by others, or is none of ours
 */
export function readKeys(surroundings: Surroundings): StoredKey[] {
  const file = credentialsFile(surroundings);
  let text: string;
  try {
    const { mode } = statSync(file);
    if ((mode & 0o077) !== 0) {
      throw new CliError(
        EXIT.refused,
        `Others may read ${file}, so the keys in it are not used. Revoke them (gpu-dev keys list), and run: chmod 600 ${file}`,
      );
    }
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  try {
    return File.parse(JSON.parse(text)).keys;
  } catch {
    throw new CliError(EXIT.failed, `${file} is not what gpu-dev login writes. Remove it, and log in again.`);
  }
}

/** Keep a key in the place of the one before it of the same user and service. */
export function keepKey(surroundings: Surroundings, key: StoredKey): void {
  const others = readKeys(surroundings).filter(({ url, user }) => url !== key.url || user !== key.user);
  write(surroundings, [key, ...others.filter(({ expires_at: end }) => Date.parse(end) > Date.now())]);
}

/** Forget keys of a service. @param user null for all users @returns those that were there */
export function forgetKeys(surroundings: Surroundings, url: string, user: string | null): StoredKey[] {
  const all = readKeys(surroundings);
  const gone = all.filter((key) => key.url === url && (user === null || key.user === user));
  if (gone.length === all.length) rmSync(credentialsFile(surroundings), { force: true });
  else if (gone.length > 0)
    write(
      surroundings,
      all.filter((key) => !gone.includes(key)),
    );
  return gone;
}

/** Whole or not at all: a file that is half written would lose the keys of other services. */
function write(surroundings: Surroundings, keys: readonly StoredKey[]): void {
  const file = credentialsFile(surroundings);
  const folder = dirname(file);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const draft = `${file}.${process.pid}`;
  try {
    writeFileSync(draft, `${JSON.stringify({ version: 1, keys }, null, 2)}\n`, { mode: 0o600 });
    chmodSync(draft, 0o600);
    renameSync(draft, file);
  } finally {
    rmSync(draft, { force: true });
  }
}
