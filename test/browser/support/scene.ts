// A whole gpu-dev that listens, and a browser that looks at it.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { buildPage } from '../../../src/supervisor/page.ts';
import { type HttpWorld, OPERATOR, startHttp } from '../../integration/http/support.ts';
import { ROOT } from '../../repository/files.ts';
import type { WorldOptions } from '../../support/world.ts';
import type { HttpDeps } from '../../../src/http/server.ts';

const RESULTS = join(ROOT, 'test-results');

export interface OpenOptions {
  /** Left out: the operator. Null: nobody yet. */
  user?: string | null;
  width?: number;
  height?: number;
  dark?: boolean;
}

export interface Scene {
  http: HttpWorld;
  url: string;
  /** A page that is signed in: with a key of this user, or as the operator. What goes wrong on it is kept. */
  open(path: string, options?: OpenOptions): Promise<Opened>;
  stop(): Promise<void>;
}

export interface Opened {
  page: Page;
  /** Errors of the page, of its policy, and requests to elsewhere. */
  wrongs: string[];
  close(): Promise<void>;
}

export async function startScene(browser: Browser, options: WorldOptions = {}, deps: Partial<HttpDeps> = {}): Promise<Scene> {
  const build = await buildPage();
  if (build.how === 'failed') throw new Error(`The page could not be built: ${build.reason}`);
  const http = await startHttp(options, deps);
  const url = await http.app.listen({ host: '127.0.0.1', port: 0 });
  const contexts: BrowserContext[] = [];
  return {
    http,
    url,
    open: async (path, { user, width = 1360, height = 900, dark = false } = {}) => {
      const context = await browser.newContext({
        viewport: { width, height },
        colorScheme: dark ? 'dark' : 'light',
        reducedMotion: 'reduce',
        permissions: ['clipboard-read', 'clipboard-write'],
      });
      contexts.push(context);
      if (user !== null) {
        const { authorization } = await (user === undefined ? http.as(OPERATOR, { admin: true }) : http.as(user));
        await context.addInitScript((key) => sessionStorage.setItem('gpu-dev-key', key), authorization.replace('Bearer ', ''));
      }
      const page = await context.newPage();
      const wrongs: string[] = [];
      page.on('pageerror', (error) => wrongs.push(`error: ${error.message}`));
      page.on('console', (message) => {
        // A service that is away is told by the browser too; that is no fault of the page.
        if (message.type() === 'error' && !/Failed to load resource|ERR_/.test(message.text())) wrongs.push(message.text());
      });
      page.on('request', (request) => {
        if (!request.url().startsWith(url) && !/^(blob|data):/.test(request.url())) wrongs.push(`request to ${request.url()}`);
      });
      await page.goto(`${url}/ui#${path}`);
      return { page, wrongs, close: () => context.close() };
    },
    stop: async () => {
      for (const context of contexts) await context.close();
      await http.stop();
    },
  };
}

/** Keep how a page looks, for people. */
export async function keepPicture(page: Page, name: string): Promise<void> {
  mkdirSync(RESULTS, { recursive: true });
  await page.screenshot({ path: join(RESULTS, `${name}.png`), fullPage: true });
}
