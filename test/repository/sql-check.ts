// Values travel to Postgres as parameters only. What is built into the text of a statement is a constant or a quoted identifier.
import ts from 'typescript';
import type { Finding, ProjectFile } from './files.ts';

const STATEMENT =
  /^\s*(--[^\n]*\n\s*)*(select|insert\s+into|update|delete\s+from|with\s+(recursive\s+)?\w+(\s*\([^)]*\))?\s+as|create|alter|drop|truncate|merge|copy|lock|listen|unlisten|notify|set\s+(local|session)|call|grant|revoke|comment\s+on|vacuum|analyze|do\s+\$)\s/i;
const FRAGMENT = /\b(from|set|where|values|returning|order by|group by|join|having|limit|on conflict)\b[\s(]/i;
/** A constant's name says that it is one. */
const CONSTANT = /^[A-Z][A-Z0-9_]*$/;
/** Functions that make any text safe as an identifier or literal. */
const QUOTING = new Set(['escapeIdentifier', 'escapeLiteral', 'identifier']);

/**
 * Places where a statement's text is put together from something that could be a value: a substitution in a template, or a
 * concatenation, that is neither a constant (UPPER_CASE, or a member of one) nor quoted by escapeIdentifier. Also every query whose text
 * is computed where it is run by anything but such a template.
 */
export function findBuiltSql(file: ProjectFile): Finding[] {
  const source = ts.createSourceFile(file.path, file.text, ts.ScriptTarget.Latest, true);
  const findings: Finding[] = [];
  const report = (node: ts.Node, what: string) => {
    findings.push({ path: file.path, line: source.getLineAndCharacterOfPosition(node.getStart()).line + 1, what });
  };
  const visit = (node: ts.Node): void => {
    // What stands in the list of parameters is a value, whatever it looks like.
    if (isParameterList(node)) return;
    if (
      ts.isTemplateExpression(node) &&
      (isQueryText(node) ||
        looksLikeSql(
          node.head.text,
          node.templateSpans.map((span) => span.literal.text),
        ))
    ) {
      for (const span of node.templateSpans) {
        if (!isSafe(span.expression))
          report(span, `\${${span.expression.getText()}} in the text of a statement: pass it as a parameter`);
      }
    }
    if (
      ts.isBinaryExpression(node) &&
      node.operatorToken.kind === ts.SyntaxKind.PlusToken &&
      !ts.isBinaryExpression(node.parent)
    ) {
      const parts = flatten(node);
      const texts = parts.filter(ts.isStringLiteralLike).map((part) => part.text);
      if (isQueryText(node) || STATEMENT.test(texts[0] ?? '')) {
        for (const part of parts) {
          if (!ts.isStringLiteralLike(part) && !ts.isTemplateExpression(part) && !isSafe(part)) {
            report(part, `${part.getText()} added to the text of a statement: pass it as a parameter`);
          }
        }
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return findings;
}

function looksLikeSql(head: string, rest: readonly string[]): boolean {
  // A sentence for people may begin with "Select" or "With"; a statement goes on like one.
  return (
    STATEMENT.test(head) &&
    (FRAGMENT.test([head, ...rest].join(' x ')) ||
      /^\s*(create|alter|drop|truncate|lock|listen|unlisten|notify|grant|revoke|vacuum)\s/.test(head))
  );
}

/** The first argument of something.query(...), or `text` in its object. */
function isQueryText(node: ts.Node): boolean {
  const { parent } = node;
  if (ts.isCallExpression(parent)) {
    return (
      parent.arguments[0] === node && ts.isPropertyAccessExpression(parent.expression) && parent.expression.name.text === 'query'
    );
  }
  return ts.isPropertyAssignment(parent) && parent.name.getText() === 'text' && isQueryText(parent.parent);
}

/** The array that follows the text in something.query(text, [...]), or `values` in its object. */
function isParameterList(node: ts.Node): boolean {
  if (!ts.isArrayLiteralExpression(node)) return false;
  const { parent } = node;
  if (ts.isPropertyAssignment(parent)) return parent.name.getText() === 'values';
  if (!ts.isCallExpression(parent) || parent.arguments.indexOf(node) < 1) return false;
  return ts.isPropertyAccessExpression(parent.expression) && parent.expression.name.text === 'query';
}

function isSafe(expression: ts.Expression): boolean {
  if (ts.isParenthesizedExpression(expression) || ts.isNonNullExpression(expression)) return isSafe(expression.expression);
  if (ts.isStringLiteralLike(expression) || ts.isNumericLiteral(expression)) return true;
  if (ts.isIdentifier(expression)) return CONSTANT.test(expression.text);
  if (ts.isPropertyAccessExpression(expression) || ts.isElementAccessExpression(expression)) return isSafe(expression.expression);
  if (ts.isConditionalExpression(expression)) return isSafe(expression.whenTrue) && isSafe(expression.whenFalse);
  if (ts.isTemplateExpression(expression)) return expression.templateSpans.every((span) => isSafe(span.expression));
  if (ts.isCallExpression(expression)) {
    const called = expression.expression;
    if (ts.isPropertyAccessExpression(called) && called.name.text === 'join') return isSafe(called.expression);
    return QUOTING.has(ts.isPropertyAccessExpression(called) ? called.name.text : called.getText());
  }
  return false;
}

function flatten(node: ts.Expression): ts.Expression[] {
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken)
    return [...flatten(node.left), ...flatten(node.right)];
  return [node];
}
