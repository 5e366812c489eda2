// What tests of operators' acts share: short ways to ask as an operator, and reservations of others.
import { randomUUID } from 'node:crypto';
import type { Answer, HttpWorld, Json } from './support.ts';

export interface AdminScene {
  get(path: string): Promise<Answer>;
  post(path: string, body: unknown, key?: string): Promise<Answer>;
  put(path: string, body: unknown): Promise<Answer>;
  remove(path: string): Promise<Answer>;
  /** Reserve for two hours, without a disk unless `fields` name one. @returns the answer */
  reserve(user: string, fields?: Record<string, unknown>): Promise<Answer>;
  /** The audit log's rows of an object, oldest first. */
  audited(object: string): Promise<Json[]>;
}

export function adminScene(http: HttpWorld): AdminScene {
  const send = async (method: 'PUT' | 'DELETE', path: string, body?: unknown): Promise<Answer> => {
    const headers = await http.as('operator', { admin: true });
    const payload = body === undefined ? {} : { payload: body as object };
    const response = await http.app.inject({ method, url: `/v1/admin${path}`, headers, ...payload });
    return { status: response.statusCode, headers: response.headers, body: response.json() };
  };
  return {
    get: (path) => http.get(`/v1/admin${path}`),
    post: (path, body, key) => http.post(`/v1/admin${path}`, body, key === undefined ? {} : { key }),
    put: (path, body) => send('PUT', path, body),
    remove: (path) => send('DELETE', path),
    reserve: (user, fields) =>
      http.post(
        '/v1/reservations',
        { reservation_id: randomUUID(), gpu_type: 't4', gpu_count: 1, duration_hours: 2, disk_name: null, ...fields },
        { user },
      ),
    audited: async (object) =>
      (await http.world.db.query<Json>('select actor, action, details from audit_log where object = $1 order by 1, 2', [object]))
        .rows,
  };
}
