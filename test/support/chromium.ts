/**
 * Debian's Chromium, unpacked beside the system with the libraries that the system lacks. Nothing is installed, and nobody needs to be root;
 * it is kept for the next run.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Browser, chromium } from 'playwright-core';
import { unpackDebian } from './debian.ts';
import { exclusively } from './kubernetes/once.ts';

const run = promisify(execFile);
const FOLDER = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'gpu-dev', 'chromium');

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Many machines for tests have a /dev/shm of a few megabytes.
  '--disable-dev-shm-usage',
];

/** Where a browser is; or, in words, why none can be had here. */
type Found = { executable: string; libraries: string[] } | { missing: string };

async function find(): Promise<Found> {
  const installed = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path));
  if (installed !== undefined) return { executable: installed, libraries: [] };
  return exclusively(FOLDER, unpack, (pid) => process.stderr.write(`waiting for process ${pid}, which unpacks Chromium\n`));
}

async function unpack(): Promise<Found> {
  const note = join(FOLDER, `${process.arch}.json`);
  if (existsSync(note)) {
    const known = JSON.parse(readFileSync(note, 'utf8')) as { executable: string; libraries: string[] };
    if (existsSync(known.executable)) return known;
  }
  const packages = await lacking();
  if ('missing' in packages) return packages;
  const unpacked = await unpackDebian('chromium', packages.names);
  if ('missing' in unpacked) return unpacked;
  const folder = join(unpacked.folder, 'usr/lib');
  const found = { executable: join(folder, 'chromium/chromium'), libraries: librariesIn(folder) };
  writeFileSync(note, JSON.stringify(found));
  return found;
}

/** What an installation would bring, by the lists that the system has; where it has none, by lists of our own. */
async function lacking(): Promise<{ names: string[] } | { missing: string }> {
  const wanted = ['--simulate', '--no-install-recommends', 'install', 'chromium', 'fonts-dejavu-core'];
  const ask = async (places: string[]) => {
    const { stdout } = await run('apt-get', [...places, ...wanted], { timeout: 60_000 });
    const names = [...stdout.matchAll(/^Inst (\S+)/gm)].map(([, name]) => name!);
    return { names: [...new Set(['chromium', 'chromium-common', ...names])].sort() };
  };
  try {
    return await ask([]).catch(async () => {
      const own = ['lists', 'cache'].map((each) => join(FOLDER, each));
      for (const each of own) mkdirSync(join(each, 'partial'), { recursive: true });
      const places = ['-o', 'APT::Sandbox::User=root', '-o', `Dir::State::Lists=${own[0]}`, '-o', `Dir::Cache=${own[1]}`];
      await run('apt-get', [...places, 'update'], { timeout: 60_000 });
      return ask(places);
    });
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string };
    return { missing: `what Chromium needs cannot be told: ${(stderr || message).trim().slice(-300)}` };
  }
}

/** Folders with shared libraries, however deep. */
function librariesIn(folder: string): string[] {
  const entries = readdirSync(folder, { withFileTypes: true });
  const own = entries.some((entry) => !entry.isDirectory() && /\.so(\.|$)/.test(entry.name)) ? [folder] : [];
  return [...own, ...entries.filter((entry) => entry.isDirectory()).flatMap((entry) => librariesIn(join(folder, entry.name)))];
}

export interface TestBrowser {
  /** Why there is none here, for `describe.skipIf`; empty if there is one. */
  missing: string;
  browser: Browser;
}

/** A browser; or, in words, why there is none here. */
export async function launchBrowser(): Promise<Browser | { missing: string }> {
  const found = await find();
  if ('missing' in found) return found;
  return chromium.launch({
    executablePath: found.executable,
    args: ARGUMENTS,
    env: {
      ...process.env,
      LD_LIBRARY_PATH: [...found.libraries, process.env['LD_LIBRARY_PATH'] ?? ''].filter(Boolean).join(':'),
    },
  });
}

/** A browser of the test file's own, or the reason why there is none; it ends with the file. */
export async function startBrowser(): Promise<TestBrowser> {
  const browser = await launchBrowser();
  if ('missing' in browser) {
    process.stderr.write(`\nNOT TESTED in a browser: ${browser.missing}\n`);
    return { missing: browser.missing, browser: null as unknown as Browser };
  }
  const { afterAll } = await import('vitest');
  afterAll(() => browser.close());
  return { missing: '', browser };
}
