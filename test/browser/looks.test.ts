import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startBrowser } from '../support/chromium.ts';
import { keepPicture, type Opened, type Scene, startScene } from './support/scene.ts';

const { missing, browser } = await startBrowser();
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const CONTRAST = 'color-contrast';
/** Dark, a page differs in its colours alone; narrow, in everything else: what was looked at is not looked at again. */
const RULES: Record<Look, object> = {
  light: {},
  dark: { runOnly: [CONTRAST] },
  narrow: { rules: { [CONTRAST]: { enabled: false } } },
};

/** What axe finds wrong, in words. */
async function unaccessible(page: Page, look: Look): Promise<string[]> {
  if (!(await page.evaluate(() => 'axe' in globalThis))) await page.evaluate(AXE);
  return page.evaluate(async (rules) => {
    const { axe } = globalThis as unknown as { axe: { run: (options: object) => Promise<{ violations: Violation[] }> } };
    interface Violation {
      id: string;
      nodes: { html: string; failureSummary: string }[];
    }
    const { violations } = await axe.run({ resultTypes: ['violations'], ...rules });
    return violations.flatMap(({ id, nodes }) =>
      nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 160)} ${failureSummary}`),
    );
  }, RULES[look]);
}

/** Things that stick out of the page, or lie on one another though neither holds the other. */
async function overlapping(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const found: string[] = [];
    if (document.documentElement.scrollWidth > innerWidth)
      found.push(`the page is ${document.documentElement.scrollWidth} px wide`);
    const boxes = [...document.querySelectorAll('button, a, input, select, h1, h2, h3, .chip, .card p, .tile b, dt')]
      // What lies outside of its pane is not to be seen, and labels of charts have a test of their own.
      .filter(
        (each) =>
          each.closest('.react-flow, dialog, .skip, .hold, details:not([open])') === null && !each.matches('.hold, .skip'),
      )
      .map((element) => ({ element, box: element.getBoundingClientRect() }))
      .filter(({ box }) => box.width > 1 && box.height > 1);
    for (const [index, { element, box }] of boxes.entries()) {
      for (const other of boxes.slice(index + 1)) {
        if (element.contains(other.element) || other.element.contains(element)) continue;
        const wide = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const high = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        if (wide > 2 && high > 2) found.push(`${element.outerHTML.slice(0, 90)} lies on ${other.element.outerHTML.slice(0, 90)}`);
      }
    }
    return found;
  });
}

type Look = 'light' | 'dark' | 'narrow';
const LOOKS: [name: Look, look: { colorScheme: 'light' | 'dark'; width: number }][] = [
  ['light', { colorScheme: 'light', width: 1360 }],
  ['dark', { colorScheme: 'dark', width: 1360 }],
  ['narrow', { colorScheme: 'light', width: 380 }],
];

describe.skipIf(missing !== '')('every page, light and dark, wide and narrow', () => {
  let scene: Scene;
  /** One page for all: it is loaded once, and led from place to place as its reader would. */
  let opened: Opened;
  let id: string;
  beforeAll(async () => {
    scene = await startScene(browser, { fleet: { h100: 2, t4: 1 } });
    const { http } = scene;
    const reserve = async (user: string, gpu_type: string, gpu_count: number, wishes: object = {}): Promise<string> =>
      (
        await http.post(
          '/v1/reservations',
          { gpu_type, gpu_count, duration_hours: 4, no_persistent_disk: true, ...wishes },
          { user },
        )
      ).body.id;
    id = await reserve('operator', 'h100', 4, { no_persistent_disk: false });
    await reserve('bob', 'h100', 8);
    await http.world.reaches(id, 'running');
    await reserve('operator', 'h100', 8);
    await reserve('eve', 'h100', 2, { duration_hours: 1.5 });
    await http.world.send({ action: 'nonsense', user_id: 'x' });
    opened = await scene.open('/board');
  });
  afterAll(async () => {
    await scene?.stop();
    expect(opened?.wrongs).toEqual([]);
  });

  const pages: [name: string, path: () => string, ready: string][] = [
    ['board', () => '/board', '.node-row .hold'],
    ['lifecycle', () => '/lifecycle', '.state .count'],
    ['machine of disks', () => '/lifecycle/disk', '[aria-label="Chart of disk"] .state'],
    ['reservation', () => `/reservation/${id}`, '.state[data-active]'],
    ['operators', () => '/operators', '[data-letter]'],
    ['reservation that is none', () => '/reservation/00000000-0000-7000-8000-000000000000', '[role="alert"]'],
  ];
  it.each(pages)('%s: accessible, and nothing lies on anything else', async (name, path, ready) => {
    const { page } = opened;
    await page.goto(`${scene.url}/ui#${path()}`);
    await page.locator(ready).first().waitFor();
    for (const [look, { colorScheme, width }] of LOOKS) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.setViewportSize({ width, height: 850 });
      expect(await unaccessible(page, look), `${name}, ${look}`).toEqual([]);
      expect(await overlapping(page), `${name}, ${look}`).toEqual([]);
      await keepPicture(page, `${name.replaceAll(' ', '-')}-${look}`);
    }
  });

  it('has no way to the inspector unless it is switched on', async () => {
    const { http } = scene;
    expect((await http.get(`/v1/reservations/${id}/inspect`)).body.code).toBe('GPU_NOT_FOUND');
    expect((await http.get('/ui/inspect.html', null)).status).toBe(404);
    expect((await http.get('/')).body.links.inspector).toBeUndefined();
  });

  it('is empty with words where there is nothing', async () => {
    const { page, close } = await scene.open('/board', { user: 'nobody' });
    await page.getByText('You hold no reservation').waitFor();
    await page.getByText('You have no disk yet').waitFor();
    expect(await unaccessible(page, 'light')).toEqual([]);
    await keepPicture(page, 'empty');
    await close();
  });
});
