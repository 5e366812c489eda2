/** `gpu-dev disk`: what is on a disk, as far as it is known without a server. */
import { type Command, InvalidArgumentError } from 'commander';
import { contextOf } from './context.ts';
import { clock, table } from './format.ts';
import type { Surroundings } from './surroundings.ts';

interface Contents {
  snapshot_id: string;
  snapshot_date: string;
  listed_at: string;
  entries: { path: string; kind: 'file' | 'folder' | 'link' | 'other'; size: number | null }[];
  kept: number;
  total: number | null;
  cut: string[];
  size_bytes: number | null;
  next_cursor: string | null;
}

const MARKS = { file: '', folder: '/', link: ' (link)', other: ' (neither file nor folder)' } as const;
const WHY: Record<string, string> = {
  entries: 'there is more than is kept',
  bytes: 'the names are too long',
  depth: 'there are deeper folders',
  time: 'it took too long',
  unread: 'something could not be read',
};
const PAGE = 1_000;

export function registerDisk(program: Command, surroundings: Surroundings): void {
  const disk = program.command('disk').description('your disks');
  disk
    .command('contents')
    .argument('<name>', 'name or id of the disk')
    .description('what was on it at its newest snapshot, without a server')
    .option('--snapshot <id>', 'at this snapshot')
    .option('--limit <entries>', 'that many entries at most', number, PAGE)
    .action(async (name: string, options: { snapshot?: string; limit: number }, command: Command) => {
      const context = contextOf(surroundings, command);
      const path = `/v1/disks/${encodeURIComponent(name)}/contents`;
      let cursor: string | undefined;
      const entries: Contents['entries'] = [];
      let page: Contents;
      do {
        const limit = Math.min(PAGE, options.limit - entries.length);
        page = await context.client.get<Contents>(path, { limit, cursor, snapshot_id: options.snapshot });
        entries.push(...page.entries);
        cursor = page.next_cursor ?? undefined;
      } while (cursor !== undefined && entries.length < options.limit);
      const { next_cursor: _next, ...known } = page;
      context.give({ ...known, entries });
      if (entries.length > 0) {
        const rows = entries.map(({ path: place, kind, size }) => [size === null ? '' : sizeOf(size), `${place}${MARKS[kind]}`]);
        context.say(table([['SIZE', 'PATH'], ...rows]));
      }
      context.say(ending(page, entries.length));
    });
}

function number(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('It must be a whole number from 1.');
  return value;
}

function ending({ snapshot_id: id, listed_at: at, kept, total, cut, size_bytes: bytes }: Contents, shown: number): string {
  const size = bytes === null ? '' : `, ${sizeOf(bytes)} in all`;
  const all = total === null ? `more than ${kept}` : String(total);
  const why = cut.map((each) => WHY[each] ?? each).join(', ');
  return `${shown} of ${all} entries${size}, as of ${clock(at)}, in ${id}.${cut.length === 0 ? '' : ` Not all is listed: ${why}.`}`;
}

function sizeOf(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  const step = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** step;
  return `${step === 0 || value >= 10 ? Math.round(value) : value.toFixed(1)} ${units[step]}`;
}
