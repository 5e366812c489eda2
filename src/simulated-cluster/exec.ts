import { appendLog } from './controllers/runtime.ts';
import { tellContents } from './contents.ts';
import { normalize, PodFiles } from './pod-files.ts';
import { type Command, parseScript, type Step } from './shell.ts';
import type { KubeObject, Loose } from './types.ts';
import type { World } from './world.ts';

export interface ExecResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

const SHELLS = new Set(['sh', 'bash', '/bin/sh', '/bin/bash', 'zsh', '/bin/zsh', '/usr/bin/bash']);
/** Accepted, without effect: owners, modes and folders are not kept. */
const NO_EFFECT = new Set(['chmod', 'chown', 'chgrp', 'mkdir', 'sync', 'true', ':', 'umask', 'set', 'sleep', 'cd', 'export']);

/**
 * Runs a command in a simulated container. Nothing real runs. Understood, on the pod's own small file system: cat, ls, test and [
 * (-f -e -d -s -r), rm, touch, tee, cp, mv, echo, printf, base64, hostname, env, exit, false, chmod, chown, mkdir and other commands without
 * effect, and `sh -c` with a line of those, or `sh FILE ARGUMENT...` with a file of such lines (quotes, "$1", ; && || | < > >> 2>).
 * A script named contents.sh tells of these files what that of dev servers would. Anything else answers `ran: <argv>` with exit code 0.
 */
export function execute(world: World, pod: KubeObject, container: string, argv: string[], stdin: string): ExecResult {
  const shell = new Session(world, pod, container);
  const result = shell.run(argv, stdin);
  appendLog(world, pod.metadata.uid, container, `exec: ${argv.join(' ')} (exit code ${result.exitCode})`);
  return result;
}

/** Whether a command reads its standard input, so that running it must wait for the input's end. */
export function readsInput(argv: string[]): boolean {
  const steps = scriptOf(argv);
  if (steps === 'none') return true;
  if (steps === undefined) return false;
  return steps.some(({ pipeline }) => {
    const first = pipeline[0];
    if (first === undefined || first.input !== undefined) return false;
    const [name = '', ...rest] = first.argv;
    const files = rest.filter((each) => !each.startsWith('-') || each === '-');
    if (name === 'tee' || SHELLS.has(name)) return true;
    return (name === 'cat' || name === 'base64') && (files.length === 0 || files.includes('-'));
  });
}

/**
 * The steps of an argv; undefined for a script that is not understood, 'none' for a shell without one.
 * @param read the content of a file with a script; left out, no file is understood
 */
function scriptOf(argv: string[], read?: (path: string) => string | undefined): Step[] | undefined | 'none' {
  const [name = '', ...rest] = argv;
  if (!SHELLS.has(name)) return [{ pipeline: [{ argv }], when: 'always' }];
  const flag = rest.findIndex((each) => /^-[a-z]*c$/.test(each));
  if (flag >= 0) return parseScript(rest[flag + 1] ?? '', rest.slice(flag + 3));
  const [file, ...args] = rest;
  if (file === undefined || file.startsWith('-')) return 'none';
  const script = read?.(file);
  return script === undefined ? undefined : parseScript(script, args);
}

class Session {
  private readonly pod: KubeObject;
  private readonly container: string;
  private readonly files: PodFiles;

  constructor(world: World, pod: KubeObject, container: string) {
    this.pod = pod;
    this.container = container;
    this.files = new PodFiles(world, pod, container);
  }

  run(argv: string[], stdin: string): ExecResult {
    const steps = scriptOf(argv, (path) => this.files.read(path));
    if (steps === 'none') {
      const message =
        'A simulated pod has no shell. Commands such as cat, ls, rm, test, printf and sh -c of those work on its small file system.\n';
      return { stdout: '', stderr: message, exitCode: 126 };
    }
    if (steps === undefined && argv[1]?.endsWith('/contents.sh') === true)
      return this.contents(argv[2] ?? '/', Number(argv[3] ?? 1));
    if (steps === undefined) return { stdout: `ran: ${argv.join(' ')}\n`, stderr: '', exitCode: 0 };
    const total: ExecResult = { stdout: '', stderr: '', exitCode: 0 };
    let strict = false;
    for (const { pipeline, when } of steps) {
      if ((when === 'success' && total.exitCode !== 0) || (when === 'failure' && total.exitCode === 0)) continue;
      const [name, option] = pipeline[0]?.argv ?? [];
      if (name === 'exit') return { ...total, exitCode: Number(option ?? total.exitCode) };
      if (name === 'set' && option?.includes('e')) strict = true;
      const result = this.pipeline(pipeline, stdin);
      total.stdout += result.stdout;
      total.stderr += result.stderr;
      total.exitCode = result.exitCode;
      if (strict && result.exitCode !== 0 && when === 'always') return total;
    }
    return total;
  }

  private pipeline(commands: Command[], stdin: string): ExecResult {
    let input = stdin;
    const result: ExecResult = { stdout: '', stderr: '', exitCode: 0 };
    for (const command of commands) {
      if (command.input !== undefined) {
        const text = this.files.read(command.input);
        if (text === undefined) return { ...result, stderr: `sh: cannot open ${command.input}: No such file\n`, exitCode: 1 };
        input = text;
      }
      const each = command.argv.length === 0 ? { stdout: '', stderr: '', exitCode: 0 } : this.command(command.argv, input);
      if (!command.errorsAway) result.stderr += each.stderr;
      result.exitCode = each.exitCode;
      input = each.stdout;
      if (command.output !== undefined) {
        const { path, append } = command.output;
        if (path !== '/dev/null' && !this.files.write(path, (append ? (this.files.read(path) ?? '') : '') + input)) {
          return { ...result, stderr: `${result.stderr}sh: ${path}: Read-only file system\n`, exitCode: 1 };
        }
        input = '';
      }
    }
    return { ...result, stdout: input };
  }

  private command(argv: string[], stdin: string): ExecResult {
    const [name = '', ...rest] = argv;
    const flags = rest.filter((each) => each.startsWith('-') && each.length > 1).join('');
    const files = rest.filter((each) => !each.startsWith('-') || each === '-');
    if (NO_EFFECT.has(name)) return okay('');
    if (SHELLS.has(name)) return this.run(argv, stdin);
    switch (name) {
      case 'false':
        return { ...okay(''), exitCode: 1 };
      case 'cat':
        return this.cat(files, stdin);
      case 'base64':
        return okay(
          /d|decode/.test(flags) ? Buffer.from(stdin, 'base64').toString('utf8') : `${Buffer.from(stdin).toString('base64')}\n`,
        );
      case 'ls':
        return this.list(files, flags);
      case 'test':
      case '[':
        return { ...okay(''), exitCode: this.test(name === '[' ? rest.slice(0, -1) : rest) ? 0 : 1 };
      case 'rm': {
        const missing = files.filter((path) => this.files.remove(path, /r/i.test(flags)) === 0);
        if (missing.length === 0 || flags.includes('f')) return okay('');
        return failed(`rm: cannot remove '${missing[0]}': No such file or directory\n`);
      }
      case 'touch':
        for (const path of files) this.files.write(path, this.files.read(path) ?? '');
        return okay('');
      case 'tee':
        for (const path of files) this.files.write(path, (flags.includes('a') ? (this.files.read(path) ?? '') : '') + stdin);
        return okay(stdin);
      case 'cp':
      case 'mv':
        return this.copy(files, name === 'mv');
      case 'echo':
        return okay(rest[0] === '-n' ? rest.slice(1).join(' ') : `${rest.join(' ')}\n`);
      case 'printf':
        return okay(format(rest));
      case 'hostname':
        return okay(`${this.pod.metadata.name}\n`);
      case 'env':
        return okay(this.environment());
      default:
        return okay(`ran: ${argv.join(' ')}\n`);
    }
  }

  private cat(paths: string[], stdin: string): ExecResult {
    const result = okay('');
    for (const path of paths.length === 0 ? ['-'] : paths) {
      const text = path === '-' ? stdin : this.files.read(path);
      if (text !== undefined) result.stdout += text;
      else {
        result.stderr += `cat: ${path}: ${this.files.isFolder(path) ? 'Is a directory' : 'No such file or directory'}\n`;
        result.exitCode = 1;
      }
    }
    return result;
  }

  /** That script is more than is understood here, and people are shown what it tells. */
  private contents(folder: string, levels: number): ExecResult {
    const sizeOf = (path: string): number => Buffer.byteLength(this.files.read(path) ?? '');
    return okay(tellContents(normalize(folder), levels, this.files.below(folder), sizeOf));
  }

  private list(paths: string[], flags: string): ExecResult {
    const result = okay('');
    for (const path of paths.length === 0 ? ['/'] : paths) {
      if (this.files.read(path) !== undefined) result.stdout += `${path}\n`;
      else if (this.files.isFolder(path)) {
        const folder = normalize(path) === '/' ? '/' : `${normalize(path)}/`;
        const names = new Set(this.files.below(path).map((each) => each.slice(folder.length).split('/')[0] as string));
        for (const each of names) if (/a/i.test(flags) || !each.startsWith('.')) result.stdout += `${each}\n`;
      } else {
        result.stderr += `ls: cannot access '${path}': No such file or directory\n`;
        result.exitCode = 2;
      }
    }
    return result;
  }

  private test(words: string[]): boolean {
    if (words[0] === '!') return !this.test(words.slice(1));
    const [flag, path = ''] = words;
    const text = this.files.read(path);
    if (flag === '-d') return text === undefined && this.files.isFolder(path);
    if (flag === '-s') return (text ?? '') !== '';
    if (flag === '-e') return text !== undefined || this.files.isFolder(path);
    return text !== undefined;
  }

  private copy([from = '', to = '']: string[], move: boolean): ExecResult {
    const text = this.files.read(from);
    if (text === undefined) return failed(`${move ? 'mv' : 'cp'}: cannot stat '${from}': No such file or directory\n`);
    const target = to.endsWith('/') || this.files.isFolder(to) ? `${to}/${from.split('/').pop()}` : to;
    this.files.write(target, text);
    if (move) this.files.remove(from, false);
    return okay('');
  }

  private environment(): string {
    const spec = this.pod.spec.containers.find((each: Loose) => each.name === this.container);
    return (spec?.env ?? []).map((each: Loose) => `${each.name}=${each.value ?? ''}\n`).join('');
  }
}

const okay = (stdout: string): ExecResult => ({ stdout, stderr: '', exitCode: 0 });
const failed = (stderr: string): ExecResult => ({ stdout: '', stderr, exitCode: 1 });

/** printf with %s, %d, %b, %% and the usual backslashes. */
function format([template = '', ...values]: string[]): string {
  const unslash = (text: string): string =>
    text.replace(/\\([ntr\\])/g, (_, char: string) => ({ n: '\n', t: '\t', r: '\r', '\\': '\\' })[char] ?? char);
  let next = 0;
  const once = (): string =>
    unslash(template).replace(/%([sdb%])/g, (_, kind: string) => {
      if (kind === '%') return '%';
      const value = values[next++] ?? '';
      return kind === 'b' ? unslash(value) : value;
    });
  let text = once();
  while (next > 0 && next < values.length) text += once();
  return text;
}
