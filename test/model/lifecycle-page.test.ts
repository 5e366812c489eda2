import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { nodesOf } from '../../machines/rules.ts';
import { reservationMachine } from '../../machines/reservation.machine.ts';
import { mermaidOf, refresh, spoken } from './lifecycle-page.ts';

const page = readFileSync(join(import.meta.dirname, '../../docs/lifecycle.md'), 'utf8');

it('the page about lifecycles shows the machines as they are (else: npm run docs:lifecycle)', () => {
  expect(refresh(page)).toBe(page);
});

it('a page without a place for a section is refused, and one that drifted is mended', () => {
  expect(() => refresh('# nothing')).toThrow(/no place for limits/);
  const drifted = page.replace(
    '| reservation | extending | `extending` | 30 s |',
    '| reservation | extending | `extending` | 31 s |',
  );
  expect(drifted).not.toBe(page);
  expect(refresh(drifted)).toBe(page);
});

it('a diagram names every state', () => {
  const diagram = mermaidOf(reservationMachine as never);
  for (const node of nodesOf(reservationMachine as never))
    if (node.type !== 'history') expect(diagram).toContain(node.path.join('_'));
});

it('durations are said as people say them', () => {
  expect([30_000, 120_000, 21_600_000, 604_800_000].map(spoken)).toEqual(['30 s', '2 min', '6 h', '7 days']);
});
