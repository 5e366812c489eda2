import { execFileSync } from 'node:child_process';
import { gunzipSync, gzipSync } from 'node:zlib';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildOf } from '../../actors/intake/build-context.ts';

interface Entry {
  name: string;
  body?: string;
  type?: string;
  link?: string;
  time?: number;
}

/** A tar.gz as base64, with exactly these headers. */
function pack(...entries: Entry[]): string {
  return packed(entries, []);
}

/** The same, with more behind its end. */
function packed(entries: readonly Entry[], behind: readonly Buffer[]): string {
  const blocks = entries.flatMap(({ name, body = '', type = '0', link = '', time = 0 }) => {
    const header = Buffer.alloc(512);
    const octal = (value: number, at: number, length: number) =>
      header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'ascii');
    header.write(name, 0, 100);
    octal(0o644, 100, 8);
    octal(body.length, 124, 12);
    octal(time, 136, 12);
    header.write(type, 156);
    header.write(link, 157, 100);
    header.write('ustar\u000000', 257, 'ascii');
    header.write(' '.repeat(8), 148, 'ascii');
    octal(
      header.reduce((sum, byte) => sum + byte, 0),
      148,
      8,
    );
    return [header, Buffer.from(body.padEnd(Math.ceil(body.length / 512) * 512, '\0'))];
  });
  return gzipSync(Buffer.concat([...blocks, Buffer.alloc(1024), ...behind])).toString('base64');
}

const dockerfile = { name: 'Dockerfile', body: 'FROM scratch' };
const hashOf = (...entries: Entry[]) => buildOf(pack(...entries)).hash;

describe('the name of a build context', () => {
  it('is not given to what programs that unpack might understand otherwise', () => {
    const refused = (archive: string) => expect(() => buildOf(archive)).toThrow(/not a tar archive/);
    // One empty block ends it for some, and two for others.
    const tar = (...entries: Entry[]) => gunzipSync(Buffer.from(pack(...entries), 'base64'));
    const first = tar(dockerfile).subarray(0, -512);
    const second = tar({ name: 'Dockerfile', body: 'FROM evil' });
    refused(gzipSync(Buffer.concat([first, second])).toString('base64'));
    refused(packed([dockerfile], [Buffer.alloc(511), Buffer.from('x')]));
    const spoiled = Buffer.from(tar(dockerfile));
    spoiled[148] = spoiled[148]! ^ 1;
    refused(gzipSync(spoiled).toString('base64'));
    refused(pack(dockerfile, { name: '../outside', body: 'x' }));
    refused(pack(dockerfile, { name: 'device', type: '3' }));
    refused(pack({ name: 'size', type: 'x', body: '9 size=5\n' }, dockerfile));
    refused(pack({ name: 'for all', type: 'g', body: '10 path=a\n' }, dockerfile));
    expect(hashOf({ name: 'comment', type: 'g', body: '17 comment=hello\n' }, dockerfile)).toBe(hashOf(dockerfile));
  });

  it('is the same for the same content, whatever the order, the times and the way of writing names', () => {
    const one = hashOf(dockerfile, { name: 'a', body: '1', time: 5 });
    expect(hashOf({ name: './a', body: '1', time: 9 }, { ...dockerfile, name: './Dockerfile' })).toBe(one);
  });

  it('differs by the target of a link, by what an entry is, and by content', () => {
    const names = [
      hashOf(dockerfile, { name: 'a', type: '2', link: 'x' }),
      hashOf(dockerfile, { name: 'a', type: '2', link: 'y' }),
      hashOf(dockerfile, { name: 'a', type: '1', link: 'y' }),
      hashOf(dockerfile, { name: 'a', type: '5' }),
      hashOf(dockerfile, { name: 'a' }),
      hashOf(dockerfile, { name: 'a', body: 'y' }),
    ];
    expect(new Set(names).size).toBe(names.length);
  });

  it('cannot be had if a name stands in it twice', () => {
    for (const again of ['Dockerfile', './Dockerfile', './/Dockerfile'])
      expect(() => hashOf(dockerfile, { name: again, body: 'FROM evil' })).toThrow(/holds "Dockerfile" twice/);
    try {
      hashOf(dockerfile, dockerfile);
    } catch (error) {
      expect(error).toMatchObject({ code: 'GPU_BUILD_CONTEXT_INVALID', field: 'dockerfile' });
    }
  });

  it('knows the long names and targets that GNU and pax write, and is one for both', () => {
    const folder = mkdtempSync(join(tmpdir(), 'gpu-dev-context-'));
    try {
      const deep = join(...Array.from({ length: 5 }, () => 'd'.repeat(60)));
      mkdirSync(join(folder, deep), { recursive: true });
      writeFileSync(join(folder, 'Dockerfile'), 'FROM scratch');
      for (const name of ['one', 'two']) writeFileSync(join(folder, deep, name), name);
      symlinkSync(join(deep, 'one'), join(folder, 'link'));
      const of = (format: string) =>
        buildOf(execFileSync('tar', ['-cz', `--format=${format}`, '-C', folder, '.']).toString('base64')).hash;
      const [gnu, pax] = [of('gnu'), of('pax')];
      rmSync(join(folder, 'link'));
      symlinkSync(join(deep, 'two'), join(folder, 'link'));
      expect(of('gnu')).not.toBe(gnu);
      expect(of('pax')).not.toBe(pax);
      expect(of('pax')).toBe(of('gnu'));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
