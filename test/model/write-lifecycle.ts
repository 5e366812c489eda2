/** npm run docs:lifecycle: brings the generated parts of docs/lifecycle.md up to date. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { refresh } from './lifecycle-page.ts';

const file = join(import.meta.dirname, '../../docs/lifecycle.md');
const page = readFileSync(file, 'utf8');
const fresh = refresh(page);
if (fresh !== page) writeFileSync(file, fresh);
console.info(fresh === page ? 'docs/lifecycle.md is up to date' : 'docs/lifecycle.md is written');
