/** What the script contents.sh of dev servers tells, of the files of a simulated container. */

/**
 * @param paths of all files, in full
 * @param sizeOf bytes of one of them
 */
export function tellContents(folder: string, levels: number, paths: readonly string[], sizeOf: (path: string) => number): string {
  const top = folder === '/' ? '/' : `${folder}/`;
  const found = new Map<string, string>();
  for (const path of paths) {
    if (!path.startsWith(top)) continue;
    const parts = path.slice(top.length).split('/');
    for (let depth = 1; depth < parts.length; depth++) found.set(parts.slice(0, depth).join('/'), 'd 4096');
    found.set(parts.join('/'), `f ${sizeOf(path)}`);
  }
  const depthOf = (path: string): number => path.split('/').length;
  const told = [...found].filter(([path]) => depthOf(path) <= levels).sort(([a], [b]) => depthOf(a) - depthOf(b));
  const records = told.map(([path, what]) => `${what} ${path}\0`);
  return `${records.join('')}end ${told.length < found.size ? 1 : 0} 0\0`;
}
