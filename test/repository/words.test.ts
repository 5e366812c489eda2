import { expect, it } from 'vitest';
import { asLines, projectFiles } from './files.ts';
import { FORBIDDEN_COMMANDS, FOREIGN_WORDS, findWords, LEFTOVERS, type WordRule } from './words.ts';

const HERE = 'test/repository/words';
const files = projectFiles().filter(({ path }) => path !== 'package-lock.json' && !path.startsWith(HERE));
const count = (text: string, rules: readonly WordRule[]) => findWords({ path: 'x', text }, rules).length;

it('no document, script or workflow runs a command that only OpenTofu may stand for', () => {
  expect(asLines(files.flatMap((file) => findWords(file, FORBIDDEN_COMMANDS)))).toEqual([]);
});

it('nothing names a machine or a package registry of its own', () => {
  expect(asLines(files.flatMap((file) => findWords(file, FOREIGN_WORDS)))).toEqual([]);
});

it('no work is left for later and no test is left out', () => {
  expect(asLines(files.flatMap((file) => findWords(file, LEFTOVERS)))).toEqual([]);
});

it('the checks find what they are for, and nothing inside a never block', () => {
  for (const text of [
    'terraform apply',
    'cd x && terraform -chdir=deploy init',
    'docker push a/b',
    'sudo docker login',
    'docker image push x',
    'docker buildx build --push .',
  ]) {
    expect(count(text, FORBIDDEN_COMMANDS), text).toBe(1);
    expect(count(`<!-- never:start -->\n${text}\n<!-- never:end -->`, FORBIDDEN_COMMANDS), text).toBe(0);
  }
  for (const text of ['terraform {', 'tofu apply', 'the push of a docker image', 'docker build .'])
    expect(count(text, FORBIDDEN_COMMANDS), text).toBe(0);
  for (const text of ['see /home/ada/notes.md', '/Users/ada/x', 'https://npm.registry.example.com/x'])
    expect(count(text, FOREIGN_WORDS), text).toBe(1);
  for (const text of ['/home/dev/model', ['https://registry', 'npmjs.org/pg'].join('.')])
    expect(count(text, FOREIGN_WORDS), text).toBe(0);
  for (const text of ['// TODO later', "it.only('x', () => {})", "describe.skip('x')", "xit('x')"])
    expect(count(text, LEFTOVERS), text).toBe(1);
});
