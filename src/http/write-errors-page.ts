// Writes docs/errors.md from the table of errors.
import { mkdirSync, writeFileSync } from 'node:fs';
import { errorsPage } from '../errors.ts';

const page = new URL('../../docs/errors.md', import.meta.url);
mkdirSync(new URL('.', page), { recursive: true });
writeFileSync(page, errorsPage());
