/** Compiled code that the next start finds again: stripping types and compiling are a good part of a start (figures in docs/performance.md). */
import { accessSync, constants } from 'node:fs';
import { enableCompileCache, flushCompileCache } from 'node:module';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/**
 * Keep what is compiled from here on; so a program calls this first and imports the rest of itself then. Who has no home that can be written
 * goes without. The variable NODE_COMPILE_CACHE of Node.js names another place, NODE_DISABLE_COMPILE_CACHE=1 switches it off.
 * @returns writes it now: a process that is killed would never write it. One that ends by itself need not call it.
 */
export function keepCompiled(): () => void {
  const home = writableHome();
  if (home !== null) enableCompileCache(join(home, '.cache', 'gpu-dev', 'compiled'));
  return () => void setImmediate(flushCompileCache);
}

/** Null also where the user is not known to the system, as in containers: `homedir` throws there. */
function writableHome(): string | null {
  try {
    const home = homedir();
    accessSync(home, constants.W_OK);
    return isAbsolute(home) ? home : null;
  } catch {
    return null;
  }
}
