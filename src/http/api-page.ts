/** docs/api-paths.md: every path of the API, generated from its own description. */
import type { OpenAPIV3_1 } from 'openapi-types';
import { Kernel } from '../../actors/kernel/kernel.ts';
import { Database } from '../../persistence/database.ts';
import type { Access } from '../identity/principal.ts';
import { buildHttp } from './server.ts';

type Operation = OpenAPIV3_1.OperationObject & { 'x-access'?: Access };

/** The description of the API as a server would give it, without one: nothing is asked of the database that it names. */
export async function describeApi(): Promise<OpenAPIV3_1.Document> {
  const db = new Database({ host: '127.0.0.1', port: 1, user: '', password: '', database: '' });
  const none = { ok: false, detail: '' };
  const app = await buildHttp({
    db,
    kernel: new Kernel({ db, kinds: [] }),
    logger: false,
    timeScale: 1,
    health: async () => ({ database: none, queue: none, tracker: none }),
    trackerAgeMs: () => null,
  });
  try {
    return (app as unknown as { swagger(): OpenAPIV3_1.Document }).swagger();
  } finally {
    await app.close();
  }
}

/** The page. */
export function apiPage(document: OpenAPIV3_1.Document): string {
  const operations = Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    Object.entries(item ?? {}).map(([method, operation]) => ({
      request: `${method.toUpperCase()} ${path}`,
      ...(operation as Operation),
    })),
  );
  const sections = (document.tags ?? []).flatMap(({ name, description }) => {
    const own = operations
      .filter(({ tags }) => tags?.includes(name))
      .sort((a, b) => order(a.request).localeCompare(order(b.request)));
    if (own.length === 0) return [];
    const rows = own.map((operation) => `| \`${operation.request}\` | ${askedBy(operation)} | ${operation.summary ?? ''} |`);
    return [`## ${name}`, '', description ?? '', '', '| request | key | what it does |', '| --- | --- | --- |', ...rows, ''];
  });
  return [
    '# Paths of the HTTP API',
    '',
    'Fields, answers and examples are in the description itself: `GET /openapi.json`, as a page at `GET /docs`. How to use them is told in',
    '[api.md](api.md). Beside the request stands the scope that its key must have; `admin` also asks for a user who is an admin.',
    '',
    ...sections,
    'This page is generated: `node src/http/write-api-page.ts`.',
    '',
  ].join('\n');
}

/** By path, then by what is done to it. */
function order(request: string): string {
  const [method = '', path = ''] = request.split(' ');
  return `${path} ${['GET', 'POST', 'PUT', 'PATCH', 'DELETE'].indexOf(method)}`;
}

function askedBy({ 'x-access': access }: Operation): string {
  if (access === undefined || access === 'public') return 'none';
  const role = access.on === 'reservation' && access.role !== undefined ? `, ${access.role}` : '';
  return `${access.scope}${role}`;
}
