/** `npm run build:page`: the page for people, if its sources have changed. */
import { buildPage } from './page.ts';

const build = await buildPage();
if (build.how === 'failed') {
  process.stderr.write(`The page could not be built: ${build.reason}\n`);
  process.exitCode = 1;
} else
  process.stdout.write(build.how === 'fresh' ? 'The page is as its sources are.\n' : `The page was built in ${build.ms} ms.\n`);
