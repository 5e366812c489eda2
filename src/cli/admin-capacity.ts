/** `gpu-dev admin maintenance`, `nodes`, `drain`, `undrain`, `release`, `cancel`, `extend`: GPUs, and those who have them. */
import type { Command } from 'commander';
import { v7 as uuidv7 } from 'uuid';
import type { ReservationView } from '../http/reservation-view.ts';
import { type Context, contextOf } from './context.ts';
import { CliError, EXIT } from './exit.ts';
import { clock, fromNow, table } from './format.ts';
import type { Surroundings } from './surroundings.ts';

interface Maintenance {
  gpu_type: string;
  reason: string;
  from: string;
  until: string | null;
  in_force: boolean;
  allowed_users: string[];
  asked_by: string;
  waiting: number;
}

interface Node {
  node: string;
  gpu_type: string;
  schedulable: boolean;
  reason: string | null;
  slots: number;
  held: number;
  drained: { reason: string; by: string; at: string } | null;
  reservations: { id: string; user_id: string; state: string; slots: number; expires_at: string | null }[];
}

export function registerCapacity(admin: Command, surroundings: Surroundings): void {
  registerMaintenance(admin, surroundings);
  admin
    .command('nodes')
    .argument('[type]', 'a GPU type (default: all)')
    .description('nodes, whether they get something new, and who is on them')
    .action(async (type: string | undefined, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const nodes: Node[] = [];
      for (let cursor: string | null | undefined; cursor !== null; ) {
        type Page = { nodes: Node[]; next_cursor: string | null };
        const page: Page = await context.client.get<Page>('/v1/admin/nodes', { gpu_type: type, cursor, limit: 500 });
        nodes.push(...page.nodes);
        cursor = page.next_cursor;
      }
      context.give({ nodes });
      context.say(nodes.length === 0 ? 'No node is known.' : nodesTable(nodes));
    });
  admin
    .command('drain')
    .argument('<node>', 'its name')
    .requiredOption('--reason <text>', 'why; users read it')
    .description('give nothing new on a node; what runs there goes on to its end')
    .action(async (name: string, { reason }: { reason: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      const path = `/v1/admin/nodes/${encodeURIComponent(name)}/drain`;
      const { body: node } = await context.client.send<Node>('PUT', path, { reason });
      context.give(node);
      context.say(`${node.node} gets nothing new: ${reason}`);
      context.say(node.reservations.length === 0 ? 'Nobody is on it.' : onIt(node));
    });
  admin
    .command('undrain')
    .argument('<node>', 'its name')
    .description('give on a node again')
    .action(async (name: string, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const { body } = await context.client.send<Node | null>('DELETE', `/v1/admin/nodes/${encodeURIComponent(name)}/drain`);
      context.give(body);
      context.say(
        `${name} is given on again${body?.schedulable === false ? `, as soon as the cluster lets it: ${body.reason}` : ''}.`,
      );
    });
  admin
    .command('release')
    .argument('<id>', 'a reservation, by its whole id')
    .requiredOption('--reason <text>', 'how you know that nothing of it runs any more; it stays in history and audit')
    .option('--confirm <id>', 'the id once more; without it you are only told what would be lost')
    .description('give your word that the server of a reservation has ended: its GPUs are given to the next')
    .action(async (id: string, { reason, confirm }: { reason: string; confirm?: string }, command: Command) => {
      const context = contextOf(surroundings, command);
      await release(context, id, reason, confirm);
    });
  admin
    .command('cancel')
    .argument('<id>', 'a reservation of anybody')
    .description('end it for its owner')
    .action(async (id: string, _options: object, command: Command) => {
      await actFor(
        contextOf(surroundings, command),
        id,
        { type: 'cancel' },
        (view) => `${view.name} of ${view.user_id} is ending.`,
      );
    });
  admin
    .command('extend')
    .argument('<id>', 'a reservation of anybody')
    .requiredOption('--hours <hours>', 'how much longer')
    .description('keep it longer for its owner')
    .action(async (id: string, { hours }: { hours: string }, command: Command) => {
      if (!(Number(hours) > 0)) throw new CliError(EXIT.usage, `--hours ${hours} is no number of hours.`);
      const event = { type: 'extend', extension_hours: Number(hours) };
      await actFor(contextOf(surroundings, command), id, event, (view) =>
        view.expires_at === null
          ? `${view.name} is extended.`
          : `${view.name} of ${view.user_id} now ends at ${clock(view.expires_at)}.`,
      );
    });
}

function registerMaintenance(admin: Command, surroundings: Surroundings): void {
  const group = admin.command('maintenance').description('of GPU types').helpCommand(false);
  group
    .command('list', { isDefault: true })
    .description('what is announced or in force')
    .action(async (_options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const answer = await context.client.get<{ maintenance: Maintenance[] }>('/v1/admin/maintenance');
      context.give(answer);
      context.say(answer.maintenance.length === 0 ? 'There is none.' : maintenanceTable(answer.maintenance));
    });
  group
    .command('begin')
    .argument('<type>', 'a GPU type')
    .requiredOption('--reason <text>', 'why; users read it')
    .option('--from <time>', 'when, with its time zone: 2026-05-01T08:00Z (default: now)')
    .option('--until <time>', 'when it ends by itself (default: when you end it)')
    .option('--allow <user...>', 'users whom it does not concern')
    .description('refuse new requests, and grant nothing to those who wait; what runs goes on')
    .action(
      async (type: string, options: { reason: string; from?: string; until?: string; allow?: string[] }, command: Command) => {
        const context = contextOf(surroundings, command);
        const { reason, allow } = options;
        const wish = { reason, from: momentOf(options.from), until: momentOf(options.until), allowed_users: allow ?? [] };
        const { body } = await context.client.send<Maintenance>('PUT', `/v1/admin/maintenance/${encodeURIComponent(type)}`, wish);
        context.give(body);
        context.say(maintenanceTable([body]));
      },
    );
  group
    .command('end')
    .argument('<type>', 'a GPU type')
    .description('serve everybody again')
    .action(async (type: string, _options: object, command: Command) => {
      const context = contextOf(surroundings, command);
      const { body } = await context.client.send<object>('DELETE', `/v1/admin/maintenance/${encodeURIComponent(type)}`);
      context.give(body);
      context.say(`${type} serves everybody again.`);
    });
}

async function release(context: Context, id: string, reason: string, confirm: string | undefined): Promise<void> {
  type Released = { freed: boolean; slots: { node: string; slot: number }[]; lost: string[] };
  const path = `/v1/admin/reservations/${encodeURIComponent(id)}/release`;
  let body: Released;
  try {
    ({ body } = await context.client.post<Released>(path, { reason, confirm: confirm ?? null }, uuidv7()));
  } catch (error) {
    const lost = error instanceof CliError ? (error.problem?.details['would_lose'] as string[] | undefined) : undefined;
    if (lost === undefined) throw error;
    throw new CliError(EXIT.refused, [...lost, `If that is so: --confirm ${id}`].join('\n'), (error as CliError).problem);
  }
  context.give(body);
  for (const what of body.lost) context.say(what);
  const slots = `${body.slots.length} ${body.slots.length === 1 ? 'slot' : 'slots'}`;
  context.say(body.freed ? `${slots} are free.` : `${slots} are free when the pool has read it.`);
}

/** Ask something of somebody's reservation. */
async function actFor(context: Context, id: string, event: object, told: (view: ReservationView) => string): Promise<void> {
  type Answer = { applied: boolean; reservation: ReservationView };
  const { body } = await context.client.post<Answer>(`/v1/reservations/${encodeURIComponent(id)}/events`, event, uuidv7());
  context.give(body);
  context.say(body.applied ? told(body.reservation) : 'It is accepted, and not decided yet.');
}

function momentOf(text: string | undefined): string | null {
  if (text === undefined) return null;
  const moment = new Date(text);
  if (!/(Z|[+-]\d\d:?\d\d)$/.test(text) || Number.isNaN(moment.getTime()))
    throw new CliError(EXIT.usage, `${text} is no time with its zone, such as 2026-05-01T08:00Z.`);
  return moment.toISOString();
}

function maintenanceTable(rows: readonly Maintenance[]): string {
  return table([
    ['TYPE', 'STATE', 'FROM', 'UNTIL', 'NOT FOR', 'WAITING', 'REASON'],
    ...rows.map((row) => [
      row.gpu_type,
      row.in_force ? 'in force' : 'announced',
      fromNow(row.from),
      row.until === null ? 'it is ended' : fromNow(row.until),
      row.allowed_users.join(', '),
      String(row.waiting),
      row.reason,
    ]),
  ]);
}

function nodesTable(nodes: readonly Node[]): string {
  const state = ({ drained, schedulable, reason }: Node) =>
    drained !== null ? `drained: ${drained.reason}` : schedulable ? 'open' : (reason ?? 'closed');
  return table([
    ['NODE', 'TYPE', 'IN USE', 'STATE', 'RESERVATIONS'],
    ...nodes.map((node) => [
      node.node,
      node.gpu_type,
      `${node.held} of ${node.slots}`,
      state(node),
      node.reservations.map(({ id, user_id }) => `${id.slice(0, 8)} (${user_id})`).join(', '),
    ]),
  ]);
}

function onIt({ reservations }: Node): string {
  return table([
    ['RESERVATION', 'USER', 'STATE', 'SLOTS', 'ENDS'],
    ...reservations.map((row) => [
      row.id,
      row.user_id,
      row.state,
      String(row.slots),
      row.expires_at === null ? '' : fromNow(row.expires_at),
    ]),
  ]);
}
