import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { newServer } from '../../src/http/fastify.ts';
import { BUILT_PAGE, POLICY, pageRoutes, readPage } from '../../src/http/page.ts';
import { buildPage } from '../../src/supervisor/page.ts';
import { projectFiles } from '../repository/files.ts';

const MOST = 250 * 1024;

beforeAll(async () => {
  expect((await buildPage()).how).not.toBe('failed');
  // What was built is not built again.
  expect((await buildPage()).how).toBe('fresh');
});

describe('the built page', () => {
  it('is small: all of it, compressed, is less than 250 KB', () => {
    const sizes = [...readPage(BUILT_PAGE).values()].map(({ gzipped }) => gzipped.length);
    const total = sizes.reduce((sum, size) => sum + size, 0);
    expect(total).toBeGreaterThan(50 * 1024);
    expect(total).toBeLessThan(MOST);
  });

  it('has nothing inline that its policy would forbid, and asks nobody else for anything', () => {
    const html = readFileSync(`${BUILT_PAGE}/index.html`, 'utf8');
    expect(html).not.toMatch(/<style|style=|<script(?![^>]*\bsrc=)|\son\w+=/);
    expect(POLICY).not.toMatch(/unsafe|https?:|\*/);
    for (const { path, text } of projectFiles('.html', '.css', '.tsx').filter((file) => file.path.startsWith('visualizer/'))) {
      expect(text.match(/https?:\/\/(?!www\.w3\.org)[^\s'"]+/g) ?? [], path).toEqual([]);
    }
  });

  it('is kept by browsers as long as its names say, compressed, and nothing but it is given out', async () => {
    const app = newServer(false, {});
    let visits = 0;
    expect(pageRoutes(app, BUILT_PAGE, { onVisit: () => void visits++, inspector: null })).toBe(true);
    const index = await app.inject({ url: '/ui' });
    expect([index.statusCode, index.headers['cache-control'], index.headers['content-security-policy']]).toEqual([
      200,
      'no-cache',
      POLICY,
    ]);
    expect(visits).toBe(1);
    const again = await app.inject({ url: '/ui/', headers: { 'if-none-match': String(index.headers['etag']) } });
    expect([again.statusCode, again.body]).toEqual([304, '']);
    const [script] = /\/ui\/assets\/index-[\w-]+\.js/.exec(index.body)!;
    const plain = await app.inject({ url: script });
    expect(plain.headers).toMatchObject({
      'cache-control': 'public, max-age=31536000, immutable',
      'content-type': 'text/javascript; charset=utf-8',
    });
    const zipped = await app.inject({ url: script, headers: { 'accept-encoding': 'gzip, br' } });
    expect(zipped.headers['content-encoding']).toBe('gzip');
    expect(zipped.rawPayload.equals(gzipSync(plain.rawPayload, { level: 9 }))).toBe(true);
    for (const path of [
      '/ui/.sources',
      '/ui/../package.json',
      '/ui/%2e%2e/package.json',
      '/ui/assets/',
      '/ui/assets/nothing.js',
    ]) {
      expect((await app.inject({ url: path })).statusCode, path).toBe(404);
    }
    await app.close();
  });

  it('is missed in words where it was not built', async () => {
    const app = newServer(false, {});
    expect(pageRoutes(app, '/nowhere', { onVisit: () => {}, inspector: null })).toBe(false);
    const { statusCode, body } = await app.inject({ url: '/ui' });
    expect(statusCode).toBe(404);
    expect(body).toContain('npm run build:page');
    await app.close();
  });
});
