/** A program as a process of its own that a test starts, stops, continues and kills. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { PATIENCE_MS } from '../../support/patience.ts';

export class Program {
  readonly child: ChildProcess;
  /** How it ended; null while it runs. */
  ended: { code: number | null; signal: NodeJS.Signals | null } | null = null;
  readonly #exit: Promise<void>;
  readonly #lines: string[] = [];

  private constructor(child: ChildProcess) {
    this.child = child;
    this.#exit = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.ended = { code, signal };
        resolve();
      });
    });
    if (child.stderr !== null) createInterface({ input: child.stderr }).on('line', (line) => this.#lines.push(line));
  }

  /**
   * Start it without waiting.
   * @param command the script and its arguments, run by this Node.
   */
  static spawn(command: readonly string[], environment: NodeJS.ProcessEnv): Program {
    return new Program(spawn(process.execPath, [...command], { env: environment, stdio: ['pipe', 'pipe', 'pipe'] }));
  }

  /** Start it and wait until it says `{"ready": true}`. @throws with its last words if it ends before. */
  static async start(command: readonly string[], environment: NodeJS.ProcessEnv): Promise<Program> {
    const program = Program.spawn(command, environment);
    await program.ready();
    return program;
  }

  /** Wait for the line that says that it is ready, or its end. @returns what the line says, null if it ended before. */
  async ready(): Promise<Record<string, unknown> | null> {
    const line = once(createInterface({ input: this.child.stdout! }), 'line', { signal: AbortSignal.timeout(PATIENCE_MS) });
    const first = await Promise.race([line.then(([text]) => String(text)), this.#exit.then(() => null)]);
    line.catch(() => {}); // it ended first
    return first === null ? null : (JSON.parse(first) as Record<string, unknown>);
  }

  /** Hear what it says on its standard output from now on, a JSON value a line. */
  onLine(hear: (line: Record<string, unknown>) => void): void {
    createInterface({ input: this.child.stdout! }).on('line', (line) => hear(JSON.parse(line) as Record<string, unknown>));
  }

  /** What it wrote to its standard error. */
  get log(): string {
    return this.#lines.join('\n');
  }

  get running(): boolean {
    return this.ended === null;
  }

  write(line: string): void {
    this.child.stdin!.write(`${line}\n`);
  }

  /** Write a line, and wait for one that says that it is understood. */
  async tell(line: string): Promise<void> {
    const heard = once(createInterface({ input: this.child.stdout! }), 'line', { signal: AbortSignal.timeout(PATIENCE_MS) });
    this.write(line);
    await heard;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.ended === null) this.child.kill(signal);
  }

  /** Wait for its end. */
  async exited(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    await this.#exit;
    return this.ended!;
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.#exit;
  }
}
