/** Keys on a laptop: a settings file, or the public keys of the person at the keyboard. GitHub is never asked. */
import { readdir, readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { KeySource } from '../../../actors/reservation/ports.ts';
import { publicKeys } from './keys-format.ts';

export interface LocalKeysOptions {
  /** Folder of the local settings (GPU_DEV_HOME); its keys.json maps a GitHub name, or * for anybody, to lines of public keys. */
  home: string;
  /** Folder of the keys of the person at the keyboard. Default ~/.ssh. */
  sshFolder?: string;
  /** Told once when there are no keys at all. */
  note?: (text: string) => void;
}

const Settings = z.record(z.string(), z.array(z.string()));

/** How long what was read counts as what is there, in milliseconds: a burst of requests reads the files once. */
const FRESH_MS = 250;

export class LocalKeys implements KeySource {
  readonly #options: LocalKeysOptions;
  readonly #settings = shared(() => this.#readSettings());
  readonly #ownKeys = shared(() => this.#readOwnKeys());
  #noted = false;

  constructor(options: LocalKeysOptions) {
    this.#options = options;
  }

  /**
   * The keys that keys.json gives the user (or `*`), else all of ~/.ssh/*.pub. None is no error here: a simulated pod has no shell.
   * @throws Error if keys.json is there and cannot be understood
   */
  async keysOf(githubUser: string): Promise<string[]> {
    const settings = await this.#settings();
    const listed = settings?.[githubUser] ?? settings?.['*'];
    const keys = listed === undefined ? await this.#ownKeys() : publicKeys(listed.join('\n'));
    if (keys.length === 0) this.#noteOnce();
    return keys;
  }

  get #file(): string {
    return join(this.#options.home, 'keys.json');
  }

  get #folder(): string {
    return this.#options.sshFolder ?? join(homedir(), '.ssh');
  }

  async #readSettings(): Promise<Record<string, string[]> | null> {
    const text = await readIfThere(this.#file);
    if (text === null) return null;
    try {
      return Settings.parse(JSON.parse(text));
    } catch (error) {
      throw new Error(`${this.#file} is not a JSON object of user name -> list of public keys`, { cause: error });
    }
  }

  async #readOwnKeys(): Promise<string[]> {
    let names: string[];
    try {
      names = await readdir(this.#folder);
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
    const files = names.filter((name) => name.endsWith('.pub')).sort();
    const texts = await Promise.all(files.map((name) => readIfThere(join(this.#folder, name))));
    return publicKeys(texts.join('\n'));
  }

  #noteOnce(): void {
    if (this.#noted) return;
    this.#noted = true;
    this.#options.note?.(`No SSH public keys in ${this.#folder}/*.pub or ${this.#file}: servers are made without keys.`);
  }
}

/** Callers within {@link FRESH_MS} of a reading share it, and its failure. */
function shared<T>(read: () => Promise<T>): () => Promise<T> {
  let last: Promise<T> | null = null;
  let until = 0;
  return () => {
    const now = performance.now();
    if (last === null || now >= until) {
      until = now + FRESH_MS;
      last = read();
    }
    return last;
  };
}

async function readIfThere(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}
