/** How commands end: exit codes that scripts may rely on, and errors that are one plain sentence with the next step. */
import { ADVICE, type ProblemCode, type ProblemDocument } from '../errors.ts';

export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  refused: 4,
  unreachable: 5,
  ended: 6,
  interrupted: 130,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** What each exit code means, for the help and the docs. */
export const EXIT_MEANINGS: Record<ExitCode, string> = {
  0: 'done',
  1: 'failed',
  2: 'the command or a value in it is wrong',
  3: 'not found',
  4: 'refused, or in conflict with the present state',
  5: 'the service cannot be reached, or cannot do its work now',
  6: 'the reservation ended while it was waited for',
  130: 'interrupted by Ctrl-C',
};

/** Ends a command. The message is for its user: what is wrong, and what to do. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exit: ExitCode;
  /** What the service said, if it was the service. */
  readonly problem: ProblemDocument | null;

  constructor(exit: ExitCode, message: string, problem: ProblemDocument | null = null) {
    super(message);
    this.exit = exit;
    this.problem = problem;
  }
}

/** An answer that is a problem, as an error of the command. */
export function errorOf(problem: ProblemDocument): CliError {
  const advice = Object.hasOwn(ADVICE, problem.code) ? ADVICE[problem.code as ProblemCode] : '';
  const sentence = /[.!?]$/.test(problem.detail) ? problem.detail : `${problem.detail}.`;
  return new CliError(exitOf(problem.status), `${sentence} ${advice}`.replaceAll('`', '').trim(), problem);
}

function exitOf(status: number): ExitCode {
  if (status === 404) return EXIT.notFound;
  if (status === 401 || status === 403 || status === 409) return EXIT.refused;
  if (status === 502 || status === 503 || status === 504) return EXIT.unreachable;
  return status >= 400 && status < 500 ? EXIT.usage : EXIT.failed;
}
