import { describe, expect, it, vi } from 'vitest';
import { Progress } from '../../../src/cli/follow.ts';
import { clean, clock, fromNow, span, table } from '../../../src/cli/format.ts';

const MINUTE = 60_000;

describe('text for people', () => {
  it('tells spans of time in two units at most', () => {
    expect([0, 45_000, 5 * MINUTE, 95 * MINUTE, 4 * 60 * MINUTE, 50 * 60 * MINUTE].map(span)).toEqual([
      '0 s',
      '45 s',
      '5 min',
      '1 h 35 min',
      '4 h 00 min',
      '2 d 2 h',
    ]);
    expect(fromNow('2026-01-01T00:10:00Z', Date.parse('2026-01-01T00:00:00Z'))).toBe('in 10 min');
    expect(fromNow('2026-01-01T00:00:00Z', Date.parse('2026-01-01T00:10:00Z'))).toBe('10 min ago');
  });

  it('tells a moment by the clock and the calendar of whoever reads it, the day only where it is another', () => {
    vi.stubEnv('TZ', 'Pacific/Auckland');
    try {
      const now = new Date('2026-11-21T10:30:00Z'); // 23:30 there, on the 21st
      expect(clock('2026-11-21T10:45:00Z', now)).toBe('23:45');
      expect(clock('2026-11-21T11:17:00Z', now)).toBe('2026-11-22 00:17');
      expect(clock('2026-11-20T10:45:00Z', now)).toBe('2026-11-20 23:45');
    } finally {
      vi.unstubAllEnvs();
    }
  });

  it('lets no text from elsewhere command the terminal', () => {
    expect(clean('a\u001b[2Jb\u0007c\u009b31md\u202ee')).toBe('ab cd e');
    expect(
      table([
        ['A', 'B'],
        ['x\ny', '\u001b]0;title\u0007z'],
      ]),
    ).toBe('A    B\nx y  z');
  });
});

describe('progress', () => {
  const output = (isTTY: boolean, columns = 40) => {
    const written: string[] = [];
    return { written, isTTY, columns, write: (text: string) => written.push(text) };
  };

  it('rewrites one line on a terminal, never wider than it', () => {
    const to = output(true);
    const progress = new Progress(to);
    progress.show('queued');
    progress.show('x'.repeat(100));
    progress.end();
    expect(to.written[0]).toBe('\r\u001b[2Kqueued (0 s)');
    expect(to.written[1]).toHaveLength('\r\u001b[2K'.length + 39);
    expect(to.written[2]).toBe('\r\u001b[2K');
  });

  it('writes a line per change elsewhere, and nothing where nobody looks', () => {
    const to = output(false);
    const progress = new Progress(to);
    for (const text of ['queued', 'queued', 'running']) progress.show(text);
    progress.end();
    expect(to.written).toEqual(['queued\n', 'running\n']);
    expect(() => new Progress(null).show('x')).not.toThrow();
  });
});
