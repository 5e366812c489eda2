import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { setRole } from '../../../persistence/collaborators.ts';
import { findUserByName } from '../../../persistence/api-users.ts';
import type { Role, Scope } from '../../../src/identity/principal.ts';
import { type HttpWorld, startHttp } from '../http/support.ts';
import { MATRIX, SCOPES, WHO } from './matrix.ts';

/** What hides something from those whose business it is none of. */
const HIDING = ['GPU_RESERVATION_UNKNOWN', 'GPU_DISK_UNKNOWN', 'GPU_OPERATION_UNKNOWN'];

let http: HttpWorld;
let base: string;
const known = { id: '', disk: '', operation: '' };
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1 } });
  await http.app.listen({ host: '127.0.0.1', port: 0 });
  base = `http://127.0.0.1:${(http.app.server.address() as AddressInfo).port}`;
  for (const user of [...WHO.slice(1), 'guest']) await http.as(user);
  // No node has such GPUs: it waits in its line, whatever is done to others.
  const wish = { gpu_type: 'h100', gpu_count: 1, duration_hours: 1, no_persistent_disk: true };
  known.id = (await http.post('/v1/reservations', wish, { user: 'owner' })).body.id;
  for (const role of ['view', 'attach', 'own'] as Role[]) {
    await setRole(http.world.db, known.id, (await findUserByName(http.world.db, role))!.user_id, role, 'owner');
  }
});
afterAll(async () => {
  await http?.stop();
});

interface Cell {
  who: string;
  user: string | null;
  scopes?: Scope[];
}
const CELLS: Cell[] = [
  ...WHO.map((who) => ({ who, user: who === 'anonymous' ? null : who })),
  ...SCOPES.map((scope) => ({ who: `owner with ${scope} alone`, user: 'owner', scopes: [scope] })),
  ...SCOPES.map((scope) => ({ who: `admin with ${scope} alone`, user: 'admin', scopes: [scope] })),
];

async function send({ user, scopes }: Cell, route: string, request: { path?: string; body?: unknown } = {}) {
  const [method = '', url = ''] = route.split(' ');
  const fill = (text: string) => text.replace(/\{(id|disk|operation)\}/g, (_all, name: keyof typeof known) => known[name]);
  const path = fill(request.path ?? url.replace(':id', '{id}').replace(':name', '{disk}'));
  const admin = user === 'admin';
  const headers = user === null ? {} : await http.as(user, { admin, ...(scopes === undefined ? {} : { scopes }) });
  // Names of disks are their owner's: an admin says whose is meant.
  const whose = admin && url.startsWith('/v1/disks/:name') ? '?user=owner' : '';
  const response = await fetch(`${base}${path}${whose}`, {
    method,
    headers: { ...headers, ...(request.body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(request.body === undefined ? {} : { body: fill(JSON.stringify(request.body)) }),
  });
  const json = String(response.headers.get('content-type')).includes('json');
  const code = json ? String(((await response.json()) as { code?: unknown }).code) : '';
  // A stream of events would go on for ever.
  if (!json) await response.body?.cancel();
  return { status: response.status, code };
}

/** A disk of the owner's that nobody has touched yet, and the operation that made it. */
async function freshDisk(): Promise<void> {
  known.disk = `disk-${Math.random().toString(36).slice(2, 10)}`;
  const made = await http.post('/v1/disks', { disk_name: known.disk, size_gb: 10 }, { user: 'owner' });
  expect(made.status).toBeLessThan(300);
  known.operation = made.body.operation_id;
}

const routeOf = (line: string) => line.split(/\s+/).slice(0, 2).join(' ');

describe('T1: the matrix of who may do what', () => {
  it('has a row for every route, and no other', () => {
    const routes = http.app.routeTable.filter(({ method }) => method !== 'HEAD' && method !== 'OPTIONS');
    expect(MATRIX.map(([line]) => routeOf(line)).sort()).toEqual(
      [...new Set(routes.map(({ method, url }) => `${method} ${url}`))].sort(),
    );
    // What answers GET answers HEAD by the same rule.
    for (const head of http.app.routeTable.filter(({ method }) => method === 'HEAD')) {
      expect(http.app.routeTable).toContainEqual({ ...head, method: 'GET' });
    }
  });

  it.each(MATRIX)('%s', async (line, ok, request) => {
    const [, , ...cells] = line.replaceAll('|', ' ').split(/\s+/);
    expect(cells).toHaveLength(CELLS.length);
    const got: string[] = [];
    for (const cell of CELLS) {
      if (/disks\/:name|operations\/:/.test(line)) await freshDisk();
      const { status, code } = await send(cell, routeOf(line), request);
      const isPublic = cells[0] === 'ok';
      const refused = !isPublic && (status === 401 || status === 403 || (status === 404 && HIDING.includes(code)));
      if (!refused) expect(ok, `${cell.who}: ${status} ${code}`).toContain(status);
      got.push(refused ? String(status) : 'ok');
    }
    expect(Object.fromEntries(CELLS.map(({ who }, index) => [who, got[index]]))).toEqual(
      Object.fromEntries(CELLS.map(({ who }, index) => [who, cells[index]])),
    );
  });

  it('knows no user by a name in the body or in a header', async () => {
    const forged = { 'x-gpu-dev-user': 'owner' };
    expect((await http.app.inject({ url: `/v1/reservations/${known.id}`, headers: forged })).statusCode).toBe(401);
    const headers = { ...forged, ...(await http.as('other')) };
    expect((await http.app.inject({ url: `/v1/reservations/${known.id}`, headers })).statusCode).toBe(404);
    const body = { type: 'cancel', user_id: 'owner' };
    expect((await http.post(`/v1/reservations/${known.id}/events`, body, { user: 'other' })).status).toBe(404);
    const wish = { gpu_type: 'h100', user_id: 'owner' };
    expect((await http.post('/v1/reservations', wish, { user: 'other' })).body.code).toBe('GPU_USER_MISMATCH');
    for (const list of ['reservations', 'disks', 'jobs']) {
      const answer = await http.get(`/v1/${list}?user=owner`, 'other');
      expect(answer.status === 403 || JSON.stringify(answer.body).includes(known.id) === false, list).toBe(true);
    }
  });
});
