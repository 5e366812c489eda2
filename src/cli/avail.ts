/** `gpu-dev avail`: what is free, and how long the queues are. */
import type { Command } from 'commander';
import { contextOf } from './context.ts';
import { CliError, EXIT } from './exit.ts';
import { table } from './format.ts';
import type { Surroundings } from './surroundings.ts';

interface Gpu {
  gpu_type: string;
  description: string | null;
  total: number;
  free: number;
  in_use: number;
  queued: number;
  whole_nodes_free: number;
  largest_fit: number;
  max_hours: number;
  paused_because: string | null;
}

export function registerAvail(program: Command, surroundings: Surroundings): void {
  program
    .command('avail')
    .argument('[type]', 'only this GPU type')
    .description('which GPUs there are, and what is free of them')
    .action(async (type: string | undefined, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const { gpus } = await context.client.get<{ gpus: Gpu[] }>('/v1/gpus');
      const asked = type === undefined ? gpus : gpus.filter((gpu) => gpu.gpu_type === type.toLowerCase());
      if (asked.length === 0 && type !== undefined) {
        throw new CliError(
          EXIT.notFound,
          `There is no GPU type ${type}. There are ${gpus.map((gpu) => gpu.gpu_type).join(', ')}.`,
        );
      }
      context.give({ gpus: asked });
      context.say(
        table([
          ['TYPE', 'FREE', 'OF', 'ON ONE NODE', 'WHOLE NODES', 'QUEUED', 'HOURS', 'WHAT'],
          ...asked.map((gpu) => [
            gpu.gpu_type,
            String(gpu.free),
            String(gpu.total),
            String(gpu.largest_fit),
            String(gpu.whole_nodes_free),
            String(gpu.queued),
            `up to ${gpu.max_hours}`,
            gpu.paused_because === null ? (gpu.description ?? '') : `under maintenance: ${gpu.paused_because}`,
          ]),
        ]),
      );
    });
}
