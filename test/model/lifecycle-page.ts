/** The generated parts of docs/lifecycle.md: diagrams of the machines and the table of their limits. */
import type { AnyStateMachine, AnyStateNode } from 'xstate';
import { DISK_LIMITS } from '../../machines/disk.effects.ts';
import { diskMachine } from '../../machines/disk.machine.ts';
import { poolMachine } from '../../machines/gpu-pool.machine.ts';
import { BUILD_LIMIT, imageMachine } from '../../machines/image.machine.ts';
import { GRACE, LIMITS, WARNINGS } from '../../machines/reservation.effects.ts';
import { reservationMachine } from '../../machines/reservation.machine.ts';
import { nodesOf } from '../../machines/rules.ts';

const DAY = 86_400_000;

/** A duration as people say it: `2 min`, `6 h`, `7 days`. */
export function spoken(milliseconds: number): string {
  if (milliseconds % DAY === 0) return milliseconds === DAY ? '1 day' : `${milliseconds / DAY} days`;
  if (milliseconds % 3_600_000 === 0) return `${milliseconds / 3_600_000} h`;
  if (milliseconds % 60_000 === 0) return `${milliseconds / 60_000} min`;
  return `${milliseconds / 1_000} s`;
}

const idOf = (node: AnyStateNode) => node.path.join('_');
type Edge = { from: string; to: string; label: string };

/** A statechart as Mermaid's `stateDiagram-v2`. Transitions that stay where they are are left out: the machine's JSON has them. */
export function mermaidOf(machine: AnyStateMachine): string {
  const lines = ['stateDiagram-v2'];
  const draw = (node: AnyStateNode, depth: number): void => {
    const indent = '  '.repeat(depth);
    const initial = node.initial?.target[0];
    if (initial !== undefined) lines.push(`${indent}[*] --> ${idOf(initial as AnyStateNode)}`);
    for (const child of Object.values(node.states)) {
      if (child.type === 'history') continue;
      if (Object.keys(child.states).length === 0) {
        lines.push(`${indent}${idOf(child)}: ${child.key}`);
        if (child.type === 'final') lines.push(`${indent}${idOf(child)} --> [*]`);
      } else {
        lines.push(`${indent}state "${child.key}" as ${idOf(child)} {`);
        draw(child, depth + 1);
        lines.push(`${indent}}`);
      }
    }
  };
  draw(machine.root as AnyStateNode, 1);
  const labels = new Map<string, Set<string>>();
  for (const { from, to, label } of edgesOf(machine)) {
    const arrow = `${from} --> ${to}`;
    labels.set(arrow, (labels.get(arrow) ?? new Set()).add(label));
  }
  for (const [arrow, events] of labels) {
    const named = [...events].filter((event) => event !== '');
    lines.push(`  ${arrow}${named.length === 0 ? '' : `: ${named.join(', ')}`}`);
  }
  return lines.join('\n');
}

function edgesOf(machine: AnyStateMachine): Edge[] {
  return nodesOf(machine).flatMap((node) =>
    [...[...node.transitions.values()].flat(), ...(node.always ?? [])].flatMap((transition) => {
      const target = transition.target?.[0] as AnyStateNode | undefined;
      if (target === undefined || target === node) return [];
      // Where running was, drawn as running itself.
      const end = target.type === 'history' ? target.parent! : target;
      return [{ from: idOf(node), to: idOf(end), label: transition.eventType.replace(/^deadline\./, '⏱ ') }];
    }),
  );
}

/** State, and what its description says. */
function statesTable(machine: AnyStateMachine): string {
  const rows = nodesOf(machine)
    .filter((node) => node.parent !== undefined)
    .map((node) => `| \`${node.path.join('.')}\` | ${node.description} | ${[...node.tags].sort().join(', ')} |`);
  return ['| State | Meaning | Tags |', '| --- | --- | --- |', ...rows].join('\n');
}

/** Deadlines, where they run, and for how long. */
export function limitsTable(): string {
  const rows: [machine: string, name: string, length: string][] = [
    ...Object.entries(LIMITS).map(([name, length]): [string, string, string] => ['reservation', name, spoken(length)]),
    ['reservation', 'graceEnd', `${spoken(GRACE)} after expiry`],
    ...WARNINGS.map((minutes): [string, string, string] => ['reservation', `warn${minutes}`, `${minutes} min before expiry`]),
    ...Object.entries(DISK_LIMITS).map(([name, length]): [string, string, string] => ['disk', name, spoken(length)]),
    ['image', 'building', spoken(BUILD_LIMIT)],
  ];
  const where = (machine: string, name: string): string => {
    const chart = { reservation: reservationMachine, disk: diskMachine, image: imageMachine }[
      machine
    ] as unknown as AnyStateMachine;
    const states = nodesOf(chart).filter((node) => node.entry.some((action) => startsLimit(action, name)));
    return states.map((node) => `\`${node.path.join('.')}\``).join(', ') || '`running`, `extending`';
  };
  return [
    '| Machine | Deadline | From entry of | Length |',
    '| --- | --- | --- | --- |',
    ...rows.map(([machine, name, length]) => `| ${machine} | ${name} | ${where(machine, name)} | ${length} |`),
  ].join('\n');
}

function startsLimit(action: unknown, name: string): boolean {
  const { type, params } = (typeof action === 'string' ? { type: action } : action) as {
    type: string;
    params?: { limit?: string };
  };
  if (type === 'startLimit') return params === undefined || params.limit === name;
  return type === `limit${name[0]!.toUpperCase()}${name.slice(1)}`;
}

const MACHINES = { reservation: reservationMachine, disk: diskMachine, image: imageMachine, 'gpu-pool': poolMachine };

/** Generated sections by name. */
export function sections(): Record<string, string> {
  return {
    limits: limitsTable(),
    ...Object.fromEntries(
      Object.entries(MACHINES).map(([name, machine]) => {
        const chart = machine as unknown as AnyStateMachine;
        return [name, `\`\`\`mermaid\n${mermaidOf(chart)}\n\`\`\`\n\n${statesTable(chart)}`];
      }),
    ),
  };
}

/**
 * The page with its generated sections as they should be.
 * @throws if a section has no place in the page.
 */
export function refresh(page: string): string {
  return Object.entries(sections()).reduce((text, [name, body]) => {
    const [start, end] = [`<!-- generated:${name} -->`, `<!-- end:${name} -->`];
    const from = text.indexOf(start);
    const to = text.indexOf(end);
    if (from < 0 || to < from) throw new Error(`docs/lifecycle.md has no place for ${name}`);
    return `${text.slice(0, from + start.length)}\n${body}\n${text.slice(to)}`;
  }, page);
}
