/** `gpu-dev admin reconcile`: database and cluster, compared now. */
import { setTimeout as pause } from 'node:timers/promises';
import { v7 as uuidv7 } from 'uuid';
import type { ReportLine } from '../../persistence/reality.ts';
import type { Context } from './context.ts';
import { CliError, EXIT } from './exit.ts';
import { fromNow, table } from './format.ts';

interface Run {
  id: string;
  status: 'waiting' | 'running' | 'done' | 'failed';
  error: string | null;
  findings: ReportLine[];
  left_out: number;
  unanswered: string[];
}

const LOOK_AGAIN_MS = 200;
/** A large cluster takes its time; a processor that does not begin at all is not there. */
const BEGIN_WITHIN_MS = 30_000;

/**
 * Ask for a comparison, wait for it, and show it.
 * @throws CliError if it failed, or nobody makes it
 */
export async function reconcile(context: Context, dryRun: boolean): Promise<void> {
  const { client, surroundings } = context;
  const asked = (await client.post<Run>('/v1/admin/reconciliations', { dry_run: dryRun }, uuidv7())).body;
  const patience = Date.now() + BEGIN_WITHIN_MS;
  let run = asked;
  while (run.status === 'waiting' || run.status === 'running') {
    if (run.status === 'waiting' && Date.now() > patience)
      throw new CliError(
        EXIT.unreachable,
        `No processor has begun the comparison ${asked.id} in ${BEGIN_WITHIN_MS / 1_000} s. It stands in line; is a processor running?`,
      );
    surroundings.interrupted.throwIfAborted();
    await pause(LOOK_AGAIN_MS);
    run = await client.get<Run>(`/v1/admin/reconciliations/${asked.id}`);
  }
  context.give(run);
  if (run.status === 'failed') throw new CliError(EXIT.failed, `The comparison failed: ${run.error}`);
  context.say(run.findings.length === 0 ? 'Database and cluster agree.' : lines(run.findings));
  if (run.left_out > 0) context.say(`${run.left_out} more are on record.`);
  for (const what of run.unanswered) context.say(`No answer, so nothing is said of it: ${what}`);
}

function lines(rows: readonly ReportLine[]): string {
  return table([
    ['KIND', 'NAME', 'OF', 'FINDING', 'SINCE', 'ACTION', 'WHY'],
    ...rows.map((row) => [row.kind, row.name, row.actor ?? '', row.verdict, fromNow(row.first_seen), row.action, row.why]),
  ]);
}
