/** Reporter of the test runner: what was wrong with a test that passed only at its second try. Such a test is no proof, and is to be mended. */
import type { TestCase } from 'vitest/node';

export default class SecondTries {
  onTestCaseResult(test: TestCase): void {
    const { state, errors = [] } = test.result();
    if (state !== 'passed' || errors.length === 0) return;
    const told = errors.map(({ message, stack = '' }) => `${message}\n${stack.split('\n').slice(0, 6).join('\n')}`);
    console.log(`SECOND TRY: ${test.module.relativeModuleId} > ${test.fullName}\n${told.join('\n').slice(0, 4_000)}\n`);
  }
}
