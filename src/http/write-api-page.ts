// Writes docs/api-paths.md from the description of the API.
import { writeFileSync } from 'node:fs';
import { apiPage, describeApi } from './api-page.ts';

writeFileSync(new URL('../../docs/api-paths.md', import.meta.url), apiPage(await describeApi()));
