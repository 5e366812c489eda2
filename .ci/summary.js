// Prints what was not tested, and "N passed, N failed" for a folder of vitest's JSON reports; further arguments name steps that failed. Exits with 1 on any failure.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, ...brokenSteps] = process.argv.slice(2);
let passed = 0;
let failed = 0;
const explained = new Set();
for (const name of readdirSync(folder).filter((each) => each.endsWith('.json'))) {
  const report = JSON.parse(readFileSync(join(folder, name), 'utf8'));
  // A file that could not even be loaded has no tests that could fail: it counts as one.
  const unloaded = report.testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0).length;
  passed += report.numPassedTests;
  failed += report.numFailedTests + unloaded;
  if (report.numFailedTests + unloaded > 0) explained.add(name.replace(/\.json$/, ''));
}
// A step that failed for another reason (types, lint, an error outside any test) is one failure of its own.
for (const step of brokenSteps) {
  console.log(`failed: ${step}`);
  if (!explained.has(step)) failed += 1;
}
// What the platform lacked was said where it was noticed; here it is seen.
const gathered = join(folder, 'not-tested.txt');
const lines = existsSync(gathered) ? readFileSync(gathered, 'utf8').split('\n') : [];
for (const line of new Set(lines.filter((each) => each !== ''))) console.log(line);
if (passed === 0 && failed === 0) failed = 1;
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
