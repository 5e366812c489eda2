/** GET /docs: the description of the API as a page. Everything on it comes from here; the policy lets the browser load nothing else. */
import swaggerUi from '@fastify/swagger-ui';
import type { Server } from './deps.ts';

const PREFIX = '/docs';

/** Scripts and styles of our own only; nothing inline, nothing from elsewhere, in nobody's frame. */
const POLICY = {
  'default-src': "'none'",
  'script-src': "'self'",
  'style-src': "'self'",
  'img-src': ["'self'", 'data:'],
  'font-src': "'self'",
  'connect-src': "'self'",
  'base-uri': "'none'",
  'form-action': "'none'",
  'frame-ancestors': "'none'",
};

/** Say of the routes of the page, which others write, who may use them. To be called before access is required. */
export function declareDocs(app: Server): void {
  app.addHook('onRoute', (route) => {
    if (route.url !== PREFIX && !route.url.startsWith(`${PREFIX}/`)) return;
    route.config = { ...route.config, access: 'public' };
    route.schema = { ...route.schema, hide: true };
  });
}

export async function docsRoutes(app: Server): Promise<void> {
  await app.register(swaggerUi, {
    routePrefix: PREFIX,
    staticCSP: POLICY,
    theme: { title: 'gpu-dev API' },
    uiConfig: { deepLinking: true, docExpansion: 'none', tryItOutEnabled: false, validatorUrl: null },
  });
}
