/** One simple command with its redirections. */
export interface Command {
  argv: string[];
  input?: string;
  output?: { path: string; append: boolean };
  errorsAway?: boolean;
}

/** Commands joined by pipes, and how the line goes on to the next. */
export interface Step {
  pipeline: Command[];
  /** When to run it: always, or only after success or failure of the step before. */
  when: 'always' | 'success' | 'failure';
}

/**
 * Reads the little of a shell that is understood: words with quotes, `;` and line ends, `&&`, `||`, `|`, `<`, `>`, `>>`, `2>/dev/null`,
 * `2>&1`, comments, and "$1" to "$9" for the arguments. Undefined for anything more (variables, substitutions, control words), which is
 * then only echoed.
 */
export function parseScript(script: string, args: readonly string[] = []): Step[] | undefined {
  const tokens = tokenize(script, args);
  if (tokens === undefined) return undefined;
  const steps: Step[] = [];
  let when: Step['when'] = 'always';
  let pipeline: Command[] = [];
  let command: Command = { argv: [] };
  const endCommand = (): void => {
    if (command.argv.length > 0 || command.output !== undefined) pipeline.push(command);
    command = { argv: [] };
  };
  const endStep = (next: Step['when']): void => {
    endCommand();
    if (pipeline.length > 0) steps.push({ pipeline, when });
    pipeline = [];
    when = next;
  };
  for (let index = 0; index < tokens.length; index++) {
    const token = tokens[index] as Token;
    if (!token.operator) {
      command.argv.push(token.text);
      continue;
    }
    const operand = tokens[index + 1];
    switch (token.text) {
      case ';':
        endStep('always');
        break;
      case '&&':
        endStep('success');
        break;
      case '||':
        endStep('failure');
        break;
      case '|':
        endCommand();
        break;
      case '2>&1':
        break;
      default: {
        if (operand === undefined || operand.operator) return undefined;
        index++;
        if (token.text === '<') command.input = operand.text;
        else if (token.text === '2>') command.errorsAway = true;
        else command.output = { path: operand.text, append: token.text === '>>' };
      }
    }
  }
  endStep('always');
  const control = ['if', 'for', 'while', 'case', 'until', 'function', '{', '('];
  return steps.some(({ pipeline: commands }) => commands.some(({ argv }) => control.includes(argv[0] ?? ''))) ? undefined : steps;
}

interface Token {
  text: string;
  operator: boolean;
}

const OPERATORS = ['2>&1', '2>', '>>', '&&', '||', ';', '|', '<', '>'];

function tokenize(script: string, args: readonly string[]): Token[] | undefined {
  const tokens: Token[] = [];
  let word: string | undefined;
  const endWord = (): void => {
    if (word !== undefined) tokens.push({ text: word, operator: false });
    word = undefined;
  };
  for (let index = 0; index < script.length; ) {
    const char = script[index] as string;
    if (char === '\n') {
      endWord();
      tokens.push({ text: ';', operator: true });
      index++;
      continue;
    }
    if (/\s/.test(char)) {
      endWord();
      index++;
      continue;
    }
    const operator = OPERATORS.find((each) => script.startsWith(each, index));
    // "2>" is a redirection only where a word could begin.
    if (operator !== undefined && !(operator.startsWith('2') && word !== undefined)) {
      endWord();
      tokens.push({ text: operator, operator: true });
      index += operator.length;
      continue;
    }
    if (char === '#' && word === undefined) {
      const end = script.indexOf('\n', index);
      index = end < 0 ? script.length : end;
      continue;
    }
    if (char === "'") {
      const end = script.indexOf("'", index + 1);
      if (end < 0) return undefined;
      word = (word ?? '') + script.slice(index + 1, end);
      index = end + 1;
      continue;
    }
    if (char === '"') {
      const match = /^"((?:[^"\\$`]|\\[\s\S]|\$[1-9])*)"/.exec(script.slice(index));
      if (match === null) return undefined;
      const text = (match[1] ?? '').replace(/\\(["\\$`])|\$([1-9])/g, (_, plain?: string, place?: string) =>
        place === undefined ? (plain ?? '') : (args[Number(place) - 1] ?? ''),
      );
      word = (word ?? '') + text;
      index += match[0].length;
      continue;
    }
    if (char === '$' || char === '`' || char === '&' || char === '(' || char === ')') return undefined;
    if (char === '\\') {
      word = (word ?? '') + (script[index + 1] ?? '');
      index += 2;
      continue;
    }
    word = (word ?? '') + char;
    index++;
  }
  endWord();
  return tokens;
}
