import { posix } from 'node:path';
import ts from 'typescript';
import { expect, it } from 'vitest';
import { asLines, type Finding, type ProjectFile, projectFiles } from './files.ts';

/** What each folder may import: folders of the project, and packages where they are limited too. */
const RULES: Record<string, { readonly folders: readonly string[]; readonly packages?: readonly string[] }> = {
  machines: { folders: ['machines'], packages: ['xstate', 'zod'] },
  persistence: { folders: ['machines', 'persistence'] },
  actors: { folders: ['machines', 'persistence', 'actors'] },
  src: { folders: ['machines', 'persistence', 'actors', 'src'] },
  visualizer: { folders: ['visualizer'] },
  test: { folders: ['machines', 'persistence', 'actors', 'src', 'test', 'bench', 'visualizer'] },
  bench: { folders: ['machines', 'persistence', 'actors', 'src', 'test', 'bench'] },
};

type Import = { readonly target: string; readonly line: number; readonly typeOnly: boolean };

function importsOf(file: ProjectFile): Import[] {
  const source = ts.createSourceFile(file.path, file.text, ts.ScriptTarget.Latest, true);
  const found: Import[] = [];
  const add = (node: ts.Node, target: ts.Node | undefined, typeOnly: boolean) => {
    if (target === undefined || !ts.isStringLiteralLike(target)) return;
    found.push({ target: target.text, line: source.getLineAndCharacterOfPosition(node.getStart()).line + 1, typeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      const bindings = node.importClause?.namedBindings;
      const named =
        bindings !== undefined && ts.isNamedImports(bindings) && node.importClause?.name === undefined ? bindings.elements : [];
      const typeOnly = node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword;
      add(node, node.moduleSpecifier, typeOnly || (named.length > 0 && named.every((element) => element.isTypeOnly)));
    } else if (ts.isExportDeclaration(node)) add(node, node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node, node.argument.literal, true);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
      add(node, node.arguments[0], false);
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function check(file: ProjectFile): Finding[] {
  const folder = file.path.split('/')[0] ?? '';
  const rule = file.path.includes('/') ? RULES[folder] : undefined;
  if (rule === undefined) return [];
  return importsOf(file).flatMap(({ target, line, typeOnly }): Finding[] => {
    const finding = (what: string): Finding[] => [{ path: file.path, line, what }];
    if (!target.startsWith('.')) {
      const name = target
        .split('/')
        .slice(0, target.startsWith('@') ? 2 : 1)
        .join('/');
      return rule.packages === undefined || rule.packages.includes(name) ? [] : finding(`${folder}/ may not import ${target}`);
    }
    const reached = posix.join(posix.dirname(file.path), target).split('/')[0] ?? '';
    if (!rule.folders.includes(reached)) return finding(`${folder}/ may not import from ${reached}/`);
    if (folder === 'persistence' && reached === 'machines' && !typeOnly)
      return finding('persistence/ may import only types from machines/');
    return [];
  });
}

const one = (path: string, text: string) => asLines(check({ path, text }));

it('every import points from a folder to itself or to one that comes before it', () => {
  const findings = projectFiles('.ts', '.tsx').flatMap(check);
  expect(asLines(findings)).toEqual([]);
});

it('the check sees static, dynamic, type and re-exporting imports', () => {
  expect(one('machines/a.ts', `import { readFile } from 'node:fs/promises';`)).toEqual([
    'machines/a.ts:1: machines/ may not import node:fs/promises',
  ]);
  expect(one('machines/a.ts', `export * from '../persistence/b.ts';`)).toEqual([
    'machines/a.ts:1: machines/ may not import from persistence/',
  ]);
  expect(one('persistence/a.ts', `\nconst x = await import('../actors/b.ts');`)).toEqual([
    'persistence/a.ts:2: persistence/ may not import from actors/',
  ]);
  expect(one('actors/a/b.ts', `type X = import('../../src/c.ts').X;`)).toEqual([
    'actors/a/b.ts:1: actors/ may not import from src/',
  ]);
  expect(one('persistence/a.ts', `import { x } from '../machines/b.ts';`)).toHaveLength(1);
  expect(
    one('persistence/a.ts', `import { type X } from '../machines/b.ts';\nimport type { Y } from '../machines/b.ts';`),
  ).toEqual([]);
  expect(one('src/a.ts', `import pg from 'pg';\nimport { x } from '../actors/b.ts';`)).toEqual([]);
});
