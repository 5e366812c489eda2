// Words that must not be in the project, and where they are allowed.
import type { Finding, ProjectFile } from './files.ts';

/** A rule for the lines of a file. */
export type WordRule = { readonly pattern: RegExp; readonly what: string };

/** Built from pieces, so that the rules do not find themselves. */
const word = (...pieces: string[]): string => pieces.join('');

/** Infrastructure is OpenTofu only, and images are published only through it. */
export const FORBIDDEN_COMMANDS: readonly WordRule[] = [
  {
    pattern: new RegExp(
      `\\b${word('terra', 'form')}\\s+(-\\S+\\s+)*(init|plan|apply|destroy|import|fmt|validate|output|state|workspace|refresh|taint|console|show|providers|get|graph|login|test|force-unlock)\\b`,
    ),
    what: 'infrastructure is OpenTofu only: use tofu',
  },
  {
    pattern: new RegExp(
      `\\b(docker|podman|nerdctl|buildah)\\s+((image|manifest)\\s+)?(${word('pu', 'sh')}|${word('log', 'in')})\\b`,
    ),
    what: 'images are published only through OpenTofu',
  },
  {
    pattern: new RegExp(`\\b(docker|podman)\\b.*\\bbuild\\b.*\\s--${word('pu', 'sh')}\\b`),
    what: 'images are published only through OpenTofu',
  },
];

/** What belongs to a machine or to a day's work, not to the project. */
export const FOREIGN_WORDS: readonly WordRule[] = [
  // /home/dev is a place inside every dev server, /home/user one inside the container that builds images.
  {
    pattern: /(?<![\w.])\/(home\/(?!(dev|user)\b)\w+|Users\/\w+|work\/\w+|private\/var\/folders)\//,
    what: "a path of somebody's machine",
  },
  {
    pattern: new RegExp(
      `https?://(?!registry\\.(npmjs\\.org|k8s\\.io|opentofu\\.org))[\\w.-]*(registry|artifactory|nexus|verdaccio|${word('mir', 'ror')})[\\w.-]*\\.[a-z]`,
      'i',
    ),
    what: 'the host of a package registry',
  },
];

/** Work that is not done, or a test that does not run. */
export const LEFTOVERS: readonly WordRule[] = [
  { pattern: new RegExp(`\\b(${word('TO', 'DO')}|${word('FIX', 'ME')}|${word('X', 'XX')})\\b(?!-)`), what: 'unfinished work' },
  {
    pattern: new RegExp(
      `\\b(it|test|describe|suite|bench)\\.(${word('on', 'ly')}|${word('sk', 'ip')}|${word('to', 'do')}|fails)\\b`,
    ),
    what: 'a test that does not run with the others',
  },
  {
    pattern: new RegExp(`\\b(${word('x', 'it')}|${word('f', 'it')}|${word('x', 'describe')})\\(['"\`]`),
    what: 'a test that does not run with the others',
  },
];

/** Lines of the file that break a rule. Lines between `never:start` and `never:end` tell what nobody may do, and may name it. */
export function findWords(file: ProjectFile, rules: readonly WordRule[]): Finding[] {
  const findings: Finding[] = [];
  let never = false;
  for (const [index, line] of file.text.split('\n').entries()) {
    if (/never:start/.test(line)) never = true;
    if (/never:end/.test(line)) never = false;
    if (never) continue;
    for (const { pattern, what } of rules)
      if (pattern.test(line)) findings.push({ path: file.path, line: index + 1, what: `${what}: ${line.trim().slice(0, 100)}` });
  }
  return findings;
}
