/** `gpu-dev reserve`: ask for a server, and see it come up. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { v7 as uuidv7 } from 'uuid';
import type { ReservationView } from '../http/reservation-view.ts';
import { type Context, contextOf } from './context.ts';
import { CliError, EXIT } from './exit.ts';
import { follow, Progress, shower } from './follow.ts';
import { clean, clock, hasEnded, span, what } from './format.ts';
import { packContext } from './pack.ts';
import { instanceOf, type Surroundings } from './surroundings.ts';

interface ReserveOptions {
  gpuType?: string;
  gpuCount?: number;
  hours?: number;
  name?: string;
  disk?: string;
  persist: boolean;
  diskSize?: number;
  onDiskBusy?: 'wait' | 'fail';
  jupyter?: boolean;
  image?: string;
  dockerfile?: string;
  githubUser?: string;
  profiling?: boolean;
  nodeLabel: Record<string, string>;
  env: Record<string, string>;
  wait: boolean;
}

const MANIFEST = new URL('../../package.json', import.meta.url);

export function registerReserve(program: Command, surroundings: Surroundings): void {
  const pair = (value: string, before: Record<string, string>) => ({ ...before, ...pairOf(value, surroundings.environment) });
  program
    .command('reserve')
    .description('reserve a dev server, and wait until it runs')
    .option('--type, --gpu-type <type>', 'GPU type, see gpu-dev avail (default: a100)')
    .option('--gpus, --gpu-count <n>', 'how many GPUs (default: 1, or 0 for a CPU type)', whole)
    .option('--hours <hours>', 'for how long, 0.5 is half an hour (default: 8)', positive)
    .option('--name <name>', 'a name for the server (default: a random one)')
    .option('--disk <name>', 'your persistent disk (default: the one called default)')
    .option('--no-persist', 'no persistent disk: what is on the server ends with it')
    .option('--disk-size <gb>', 'size of the disk; one that is smaller grows, none shrinks (default: 200 if it is new)', whole)
    .addOption(
      new Option('--on-disk-busy <what>', 'if another reservation uses the disk (default: wait)').choices(['wait', 'fail']),
    )
    .option('--jupyter', 'start Jupyter too')
    .option('--image <image>', 'container image')
    .option('--dockerfile <path>', 'build the image from a Dockerfile, or from a folder with one')
    .option('--github-user <name>', 'whose SSH keys may log in')
    .option('--profiling', 'a node where GPUs may be profiled, or wait for one')
    .option('--node-label <name=value>', 'a label that the node must bear (repeatable)', label, {})
    .option('--env <name=value>', 'environment variable; a name alone takes the value of this shell (repeatable)', pair, {})
    .option('--no-wait', 'do not wait until it runs')
    .action(async (options: ReserveOptions, command: Command) => reserve(contextOf(surroundings, command), options));
}

async function reserve(context: Context, options: ReserveOptions): Promise<void> {
  const { interrupted, err } = context.surroundings;
  const message = messageOf(options, context.surroundings.directory);
  interrupted.throwIfAborted();
  // From here on it may exist: an interruption waits for the answer, and tells what to do about it.
  const id = uuidv7();
  const request = { ...message, reservation_id: id };
  const { body: made, notice } = await context.client.post<ReservationView>('/v1/reservations', request, id);
  context.say(`Reserved ${what(made)} for ${span(made.duration_hours * 3_600_000)}: ${made.name}, ${made.id}`);
  if (notice !== null) context.say(notice);
  if (!options.wait) {
    context.give(made);
    context.say(`Follow it with: gpu-dev watch ${made.id}`);
    return;
  }
  const progress = new Progress(context.json ? null : err);
  try {
    const view = await follow(context, made.id, (one) => usable(one) || ending(one), shower(progress), progress);
    if (ending(view)) {
      context.give(view);
      throw new CliError(EXIT.ended, endOf(view));
    }
    context.give(view);
    await sayHow(context, view);
  } catch (error) {
    if (interrupted.aborted) err.write(`\nThe reservation stays. Cancel it with: gpu-dev cancel ${made.id}\n`);
    throw error;
  }
}

function usable(view: ReservationView): boolean {
  return view.state === 'running' || view.state === 'extending';
}

function ending(view: ReservationView): boolean {
  return hasEnded(view) || view.state === 'snapshotting';
}

function endOf(view: ReservationView): string {
  const why = view.failure_reason === null ? '' : `: ${view.failure_reason}`;
  return `The reservation ${view.id} ${hasEnded(view) ? `has ended (${view.state})` : 'is ending'}${why}. See gpu-dev show ${view.id} --history.`;
}

/** How to get in, for how long, and what to know about it. */
async function sayHow(context: Context, view: ReservationView): Promise<void> {
  context.say(`Running on ${view.node ?? 'its node'} until ${view.expires_at === null ? 'its end' : clock(view.expires_at)}.`);
  if (view.ssh_command !== null) context.say(`  ${view.ssh_command}`);
  if (!context.json && (await isSimulated(context))) {
    context.say('The cluster is simulated, so this server has no shell; see its pod with: kubectl get pods -n gpu-dev');
  }
}

/** A simulated cluster has pods without shells: told by the service, or by the instance that runs here. */
async function isSimulated(context: Context): Promise<boolean> {
  const { cluster } = await context.client.get<{ cluster?: string | null }>('/').catch(() => ({ cluster: null }));
  if (cluster !== null && cluster !== undefined) return cluster === 'simulated';
  const instance = instanceOf(context.surroundings);
  return (
    instance?.cluster.kind === 'simulated' && URL.canParse(instance.url) && new URL(instance.url).origin === context.client.url
  );
}

/** The options as a create message. */
function messageOf(options: ReserveOptions, directory: string): Record<string, unknown> {
  if (options.disk !== undefined && !options.persist) throw new CliError(EXIT.usage, 'Choose one of --disk and --no-persist.');
  if (options.image !== undefined && options.dockerfile !== undefined)
    throw new CliError(EXIT.usage, 'Choose one of --image and --dockerfile.');
  const { version } = JSON.parse(readFileSync(MANIFEST, 'utf8')) as { version: string };
  const message = {
    gpu_type: options.gpuType,
    gpu_count: options.gpuCount,
    duration_hours: options.hours,
    name: options.name,
    disk_name: options.disk,
    no_persistent_disk: options.persist ? undefined : true,
    disk_size_gb: options.diskSize,
    on_disk_busy: options.onDiskBusy,
    jupyter_enabled: options.jupyter,
    dockerimage: options.image,
    dockerfile: options.dockerfile === undefined ? undefined : packContext(resolve(directory, options.dockerfile)),
    github_user: options.githubUser,
    profiling: options.profiling,
    node_labels: Object.keys(options.nodeLabel).length === 0 ? undefined : options.nodeLabel,
    env_vars: Object.keys(options.env).length === 0 ? undefined : options.env,
    version,
  };
  return Object.fromEntries(Object.entries(message).filter(([, value]) => value !== undefined));
}

function pairOf(text: string, environment: NodeJS.ProcessEnv): Record<string, string> {
  const equals = text.indexOf('=');
  const name = equals < 0 ? text : text.slice(0, equals);
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw new InvalidArgumentError(`${clean(name)} is no name of a variable.`);
  const value = equals < 0 ? environment[name] : text.slice(equals + 1);
  if (value === undefined) throw new InvalidArgumentError(`${name} is not set in this shell.`);
  return { [name]: value };
}

function label(text: string, before: Record<string, string>): Record<string, string> {
  const [, name, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError('It must be name=value.');
  return { ...before, [name]: value };
}

function whole(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be a whole number.');
}

/** A positive decimal number. */
export function positive(text: string): number {
  const value = Number(text);
  if (/^\d*\.?\d+$/.test(text) && value > 0) return value;
  throw new InvalidArgumentError('It must be a number above 0.');
}
