/** The container's entry point: the service alone, its role in the first argument (see serve.ts). */
import { keepCompiled } from './compile-cache.ts';

const write = keepCompiled();
const { serve } = await import('./serve.ts');
await serve(process.argv.slice(2));
write();
