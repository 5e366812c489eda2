/** How far a build is: its log is kept line by line, and from time to time its requesters are told the step it is at. */
import type { ImageMessage } from '../../machines/image.events.ts';
import { appendLines } from '../../persistence/build-log.ts';
import type { Store } from '../../persistence/database.ts';
import { enqueue } from '../../persistence/mailbox.ts';
import type { LogLine } from './ports.ts';

/** Requesters are told so often at most, in milliseconds: each news is a turn of the image and of each who waits for it. */
const TELL_EVERY = 3_000;

/** A step of BuildKit (`#7 [3/9] RUN make`), or of the classic builder (`Step 3/9 : RUN make`). */
const STEP = /^(?:#\d+ )?\[(?:[\w.-]+ )?(\d+)\/(\d+)\] ?(.*)$|^Step (\d+)\/(\d+) : (.*)$/;
const LONGEST = 200;

/** The newest step that these lines tell of, for people; null if there is none. */
export function stepOf(lines: readonly LogLine[]): string | null {
  for (let index = lines.length - 1; index >= 0; index--) {
    const found = STEP.exec(lines[index]!.text.trim());
    if (found === null) continue;
    const [, step, of, what, oldStep, oldOf, oldWhat] = found;
    return `Building the image, step ${step ?? oldStep} of ${of ?? oldOf}: ${what ?? oldWhat ?? ''}`.slice(0, LONGEST).trim();
  }
  return null;
}

/**
 * Keep new lines, and tell the image of the step.
 * @param waits why no step has begun; told once for each reason, as long as there are no lines
 * @throws the database's error
 */
export async function noteProgress(
  db: Store,
  { hash, attempt }: { hash: string; attempt: number },
  lines: readonly LogLine[],
  waits: string | null,
): Promise<void> {
  const added = await appendLines(db, { hash, attempt }, lines);
  const step = stepOf(lines);
  const detail = lines.length === 0 ? waits : added === 0 ? null : step;
  if (detail === null) return;
  const event: ImageMessage = { type: 'build.progress', attempt, detail };
  // One news a span of time: who asks at the same time says the same, and a repetition is dropped by its key.
  const when = lines.length === 0 ? detail : Math.floor(Date.parse(lines.at(-1)!.at) / TELL_EVERY);
  const key = `progress:${attempt}:${when}`;
  await enqueue(db, [{ actor: `image/${hash}`, key, event, sender: 'effect' }]);
}
