// The curl commands of a page, in order: what stands in a block of code, fenced or indented, and begins with curl or keeps its answer.
const COMMAND = /^(?:\$ )?((?:[A-Z_]+=)?(?:\$\()?curl\s.*)$/;

/** Lines of all blocks of code of a page. */
function codeOf(page: string): string[] {
  const lines: string[] = [];
  let fenced = false;
  for (const line of page.split('\n')) {
    if (/^\s*```/.test(line)) fenced = !fenced;
    else if (fenced) lines.push(line);
    else lines.push(line.startsWith('    ') ? line.slice(4) : '');
  }
  return lines;
}

/** The commands, each on one line however it is written. Comments behind them are left out. */
export function curlCommands(page: string): string[] {
  const commands: string[] = [];
  const lines = codeOf(page);
  for (let index = 0; index < lines.length; index++) {
    let command = COMMAND.exec(lines[index]!.trim())?.[1];
    if (command === undefined) continue;
    while (command.endsWith('\\')) command = `${command.slice(0, -1)}${lines[++index]!.trim()}`;
    commands.push(command.replace(/\s+#\s.*$/, ''));
  }
  return commands;
}
