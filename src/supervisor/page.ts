/** The page for people is built where it is started from its sources: once, and again when they have changed. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SOURCES = join(ROOT, 'visualizer');
const BUILT = join(SOURCES, 'dist');
/** Of which sources it was built. No browser gets it: it is no file of the page. */
const STAMP = join(BUILT, '.sources');

/** What became of it; `failed` tells why it is not there, in words. */
export type PageBuild = { how: 'fresh' } | { how: 'built'; ms: number } | { how: 'failed'; reason: string };

/** Build the page if what stands there is of other sources. Whoever reads meanwhile finds the old one or the new one, whole. */
export async function buildPage(): Promise<PageBuild> {
  const sources = hashOfSources();
  if (stampOf() === sources) return { how: 'fresh' };
  const vite = findVite();
  if (vite === null) return { how: 'failed', reason: 'vite is not installed here; npm ci brings it' };
  const begun = performance.now();
  const made = mkdtempSync(join(SOURCES, 'dist-'));
  try {
    const { code, said } = await run(vite, ['build', SOURCES, '--outDir', made, '--emptyOutDir', '--logLevel', 'warn']);
    if (code !== 0) return { how: 'failed', reason: said.trim().slice(-2_000) };
    writeFileSync(join(made, '.sources'), sources);
    const old = `${made}-old`;
    if (existsSync(BUILT)) renameSync(BUILT, old);
    // Somebody else may have been faster; theirs is as good.
    if (!existsSync(BUILT)) renameSync(made, BUILT);
    rmSync(old, { recursive: true, force: true });
    return { how: 'built', ms: Math.round(performance.now() - begun) };
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
}

function stampOf(): string | null {
  try {
    return readFileSync(STAMP, 'utf8');
  } catch {
    return null;
  }
}

/** Sources, and the versions of what they are built with. */
function hashOfSources(): string {
  const hash = createHash('sha256');
  const visit = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (folder === SOURCES && entry.name.startsWith('dist')) continue;
      const path = join(folder, entry.name);
      if (entry.isDirectory()) visit(path);
      else hash.update(`${path.slice(ROOT.length)}\n`).update(readFileSync(path));
    }
  };
  visit(SOURCES);
  const lock = join(ROOT, 'package-lock.json');
  if (existsSync(lock)) hash.update(readFileSync(lock));
  return hash.digest('hex');
}

function findVite(): string | null {
  try {
    return join(dirname(createRequire(import.meta.url).resolve('vite/package.json')), 'bin', 'vite.js');
  } catch {
    return null;
  }
}

function run(program: string, args: readonly string[]): Promise<{ code: number | null; said: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...args], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
    }
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, said }));
  });
}
