/** Programs of Debian packages, unpacked beside the system: nothing is installed, and nobody needs to be root. Kept for the next run. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'gpu-dev', 'debian');

/** A folder with the files of the packages, as they would lie below `/`; or, in words, why it cannot be had here. */
export type Unpacked = { folder: string } | { missing: string };

/**
 * The packages alone, without those that they depend on.
 * @param suite of Debian, for what the system's own has not; left out: what the system is set up with
 */
export async function unpackDebian(name: string, packages: readonly string[], suite = ''): Promise<Unpacked> {
  const hash = createHash('sha256')
    .update(`${process.arch} ${suite}${packages.join(' ')}`)
    .digest('hex')
    .slice(0, 12);
  const folder = join(CACHE, `${name}-${hash}`);
  if (existsSync(folder)) return { folder };
  await mkdir(CACHE, { recursive: true });
  const work = await mkdtemp(join(CACHE, 'unpacking-'));
  try {
    await (suite === '' ? download(work, packages) : downloadFrom(suite, work, packages));
    const root = join(work, 'root');
    await mkdir(root);
    for (const file of (await readdir(work)).filter((each) => each.endsWith('.deb'))) {
      await run('dpkg', ['-x', join(work, file), root]);
    }
    // Another run may have been faster; its folder is as good.
    await rename(root, folder).catch((error: unknown) => {
      if (!existsSync(folder)) throw error;
    });
    return { folder };
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string };
    return { missing: `the Debian packages ${packages.join(' ')} cannot be had: ${(stderr || message).trim().slice(-300)}` };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** By the lists that the system has; where it has none, by lists of our own. */
async function download(cwd: string, packages: readonly string[]): Promise<void> {
  const limits = { cwd, timeout: 60_000 };
  const sandbox = ['-o', 'APT::Sandbox::User=root'];
  try {
    await run('apt-get', [...sandbox, 'download', ...packages], limits);
  } catch {
    const own = ['lists', 'cache'].map((each) => join(cwd, each));
    for (const each of own) await mkdir(join(each, 'partial'), { recursive: true });
    const places = [...sandbox, '-o', `Dir::State::Lists=${own[0]}`, '-o', `Dir::Cache=${own[1]}`];
    await run('apt-get', [...places, 'update'], limits);
    await run('apt-get', [...places, 'download', ...packages], limits);
  }
}

/** By lists of a suite of its own, from the mirror that the system uses. */
async function downloadFrom(suite: string, cwd: string, packages: readonly string[]): Promise<void> {
  const known = await readFile('/etc/apt/sources.list.d/debian.sources', 'utf8').catch(() => '');
  const mirror = /^URIs:\s*(\S+)/m.exec(known)?.[1] ?? 'http://deb.debian.org/debian';
  const source = join(cwd, 'source.list');
  await writeFile(source, `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror} ${suite} main\n`);
  const own = ['lists', 'cache'].map((each) => join(cwd, each));
  await mkdir(join(own[0]!, 'partial'), { recursive: true });
  await mkdir(join(own[1]!, 'archives', 'partial'), { recursive: true });
  const settings = {
    'APT::Sandbox::User': 'root',
    'Dir::Etc::SourceList': source,
    'Dir::Etc::SourceParts': '/dev/null',
    'Dir::State::Lists': own[0]!,
    'Dir::Cache': own[1]!,
  };
  const options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  await run('apt-get', [...options, 'update'], { cwd, timeout: 120_000 });
  await run('apt-get', [...options, 'download', ...packages], { cwd, timeout: 60_000 });
}
