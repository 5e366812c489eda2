import { afterAll, beforeAll, expect, it } from 'vitest';
import { type HttpWorld, type Json, startHttp } from './support.ts';

let http: HttpWorld;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1 } });
});
afterAll(async () => {
  await http?.stop();
});

/** All pages of a list, two at a time, and how many there were. */
async function walk(path: string, field: string): Promise<{ items: Json[]; pages: number }> {
  const items: Json[] = [];
  let cursor: string | null = '';
  for (let pages = 0; ; pages++) {
    if (cursor === null || pages > 50) return { items, pages };
    const mark: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const { status, body } = await http.get(`${path}${path.includes('?') ? '&' : '?'}limit=2${mark}`);
    expect([path, status]).toEqual([path, 200]);
    items.push(...body[field]);
    cursor = body.next_cursor;
  }
}

it('findings come page by page, each once, also those seen at the same moment, and by kind', async () => {
  await http.world.db.query(
    `insert into reality_findings (kind, name, uid, verdict, why, first_seen, last_seen)
     select case when n % 2 = 0 then 'Pod' else 'Service' end, 'thing-' || n, '', 'unknown', 'a test', '2026-01-01', now() from generate_series(1, 7) as n`,
  );
  const all = await walk('/v1/admin/findings', 'findings');
  expect(all.items.map(({ name }: Json) => name)).toEqual([1, 2, 3, 4, 5, 6, 7].map((n) => `thing-${n}`));
  expect(all.pages).toBe(4);
  const pods = await walk('/v1/admin/findings?kind=Pod', 'findings');
  expect(pods.items.map(({ name }: Json) => name)).toEqual(['thing-2', 'thing-4', 'thing-6']);
  expect((await walk('/v1/admin/findings?verdict=missing', 'findings')).items).toEqual([]);
  expect((await http.get('/v1/admin/findings?cursor=x')).body).toMatchObject({ status: 400, field: 'cursor' });
});

it('reservations come page by page, each once, while new ones are made', async () => {
  const wish = { gpu_type: 't4', duration_hours: 1, no_persistent_disk: true };
  const made: string[] = [];
  for (let n = 0; n < 5; n++) made.unshift((await http.post('/v1/reservations', wish, { user: 'ada' })).body.id);
  const first = (await http.get('/v1/reservations?user=ada&limit=2')).body;
  await http.post('/v1/reservations', wish, { user: 'ada' });
  const rest = [];
  for (let cursor = first.next_cursor; cursor !== null; ) {
    const { body } = await http.get(`/v1/reservations?user=ada&limit=2&cursor=${cursor}`);
    rest.push(...body.reservations);
    cursor = body.next_cursor;
  }
  expect([...first.reservations, ...rest].map(({ id }: Json) => id)).toEqual(made);
});
