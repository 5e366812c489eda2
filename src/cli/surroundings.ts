/** What a command has around it: streams, environment, the wish to be interrupted. Tests bring their own. */
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import type { Instance } from '../supervisor/instance.ts';
import { CliError, EXIT } from './exit.ts';

/** A stream to write to. */
export interface Output {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

export interface Surroundings {
  environment: NodeJS.ProcessEnv;
  directory: string;
  out: Output;
  err: Output;
  /** Aborted by Ctrl-C. */
  interrupted: AbortSignal;
}

/** Options that every command takes. */
export interface CommonOptions {
  json?: boolean;
  user?: string;
  url?: string;
}

const DEFAULT_URL = 'http://127.0.0.1:8080';

/** The folder of the instance that runs here. */
export function homeOf({ environment, directory }: Surroundings): string {
  return resolve(directory, environment.GPU_DEV_HOME || '.gpu-dev');
}

/** What instance.json says; null if there is none that can be read. */
export function instanceOf(surroundings: Surroundings): Instance | null {
  try {
    return JSON.parse(readFileSync(join(homeOf(surroundings), 'instance.json'), 'utf8')) as Instance;
  } catch {
    return null;
  }
}

/**
 * Where the service is: --url, GPU_DEV_URL, the instance that runs here, or the usual place.
 * @throws CliError if that is no http address.
 */
export function urlOf(surroundings: Surroundings, options: CommonOptions): URL {
  const given = options.url ?? (surroundings.environment.GPU_DEV_URL || undefined);
  const text = given ?? instanceOf(surroundings)?.url ?? DEFAULT_URL;
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw new CliError(EXIT.usage, `${text} is not the address of a service. Set GPU_DEV_URL to something like ${DEFAULT_URL}.`);
  }
  return url;
}

/** Who asks: --user, GPU_DEV_USER, or the login name. */
export function userOf(surroundings: Surroundings, options: CommonOptions): string {
  const given = options.user ?? (surroundings.environment.GPU_DEV_USER || undefined);
  if (given !== undefined) return given;
  try {
    return userInfo().username;
  } catch {
    throw new CliError(EXIT.usage, 'Nobody is logged in by name here. Say who you are with --user or GPU_DEV_USER.');
  }
}
