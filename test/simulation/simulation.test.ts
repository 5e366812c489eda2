import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));

/** In processes of their own: the simulation puts its own clock and its own chance in the place of the machine's. */
async function simulate(...args: string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code, output };
}

test('every rule holds in three hundred histories with crashes, losses and delays', { timeout: 300_000 }, async () => {
  const { code, output } = await simulate('--seeds', '300', '--workers', '2');
  expect(code, output).toBe(0);
  expect(output).toMatch(/^300 seeds, \d+ turns, 0 failed$/m);
});

test('one seed is one history', async () => {
  const [first, second] = await Promise.all([simulate('--seed', '7'), simulate('--seed', '7')]);
  expect(first.output).toContain('every rule holds');
  expect(second.output).toBe(first.output);
});
