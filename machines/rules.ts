/**
 * What every machine obeys. A machine is data for the kernel: it may not act, wait or ask for the time by itself, and every name in it
 * must have a meaning that can be listed. A test walks each machine with {@link violations}.
 */
import type { AnyStateMachine, AnyStateNode } from 'xstate';

export interface RuleOptions {
  /** Entry actions (beside `startLimit` and `limit…`) that ask for an effect whose result always comes: their state needs no deadline. */
  pending?: readonly string[];
}

type Named = { type?: unknown; params?: unknown };
type Transition = {
  actions?: readonly unknown[];
  guard?: unknown;
  eventType: string;
  target?: readonly AnyStateNode[] | undefined;
};
type Implementations = Record<'actions' | 'guards' | 'delays' | 'actors', Record<string, unknown>>;

/** Built-in actions that only compute. */
const PURE_BUILTINS: ReadonlySet<string> = new Set(['xstate.assign', 'xstate.emit', 'xstate.raise']);
const EMPTY = /^(?:\([^)]*\)|\w+)\s*=>\s*\{\s*\}$/;
const IMPURE =
  /\bDate\.now\b|\bnew Date\(\)|\bDate\(\)|\bMath\.random\b|\bcrypto\b|\bprocess\b|\bfetch\(|\bperformance\b|\bawait\b/;

/** Every way in which a machine breaks the rules, in words; empty if it obeys them all. */
export function violations(machine: AnyStateMachine, options: RuleOptions = {}): string[] {
  const found = [...ofSetup(machine), ...ofContext(machine)];
  const limit = machine.options?.maxIterations;
  if (limit === undefined || !Number.isFinite(limit)) found.push('the machine has no maxIterations');
  if (!/^[1-9]\d*$/.test(String(machine.version ?? ''))) found.push('the machine has no whole number as version');
  for (const node of nodesOf(machine)) found.push(...ofNode(node, machine, options));
  return found;
}

/** All state nodes of a machine, the root first, in document order. */
export function nodesOf(machine: AnyStateMachine): AnyStateNode[] {
  const walk = (node: AnyStateNode): AnyStateNode[] => [node, ...Object.values(node.states).flatMap((child) => walk(child))];
  return walk(machine.root as AnyStateNode);
}

/** True if no actor ever rests in this state: an unguarded `always` leads out of it at once. */
export function isTransient(node: AnyStateNode): boolean {
  return (node.always ?? []).some((transition) => transition.guard === undefined);
}

function ofNode(node: AnyStateNode, machine: AnyStateMachine, options: RuleOptions): string[] {
  const where = node.id;
  const found: string[] = [];
  const implementations = machine.implementations as unknown as Implementations;
  if (!node.description?.trim()) found.push(`${where} has no description`);
  if (node.invoke.length > 0) found.push(`${where} invokes an actor`);
  if (node.after.length > 0) found.push(`${where} waits with after`);
  for (const action of [...node.entry, ...node.exit]) found.push(...ofAction(action, where, implementations));
  const transitions = transitionsOf(node);
  for (const transition of transitions) {
    const at = `${where} on ${transition.eventType || 'always'}`;
    if (/^xstate\.(after|error|stop|init)/.test(transition.eventType)) found.push(`${at}: a reserved event`);
    if (transition.eventType.includes('*')) found.push(`${at}: a wildcard`);
    for (const action of transition.actions ?? []) found.push(...ofAction(action, at, implementations));
    if (transition.guard !== undefined) found.push(...ofGuard(transition.guard, at, implementations));
  }
  if (node.type === 'final') {
    for (let above: AnyStateNode | undefined = node; above !== undefined; above = above.parent) {
      if (transitionsOf(above).length > 0) found.push(`${where} is final, and ${above.id} has a way out`);
    }
  }
  if (node.type === 'atomic' && !isTransient(node) && !isBounded(node, options)) {
    found.push(`${where} can wait for ever: it has no limit and no pending effect, and is not tagged resting`);
  }
  return found;
}

function transitionsOf(node: AnyStateNode): Transition[] {
  return [...[...node.transitions.values()].flat(), ...(node.always ?? [])] as unknown as Transition[];
}

function isBounded(node: AnyStateNode, options: RuleOptions): boolean {
  for (let at: AnyStateNode | undefined = node; at !== undefined; at = at.parent) {
    if (at.tags.includes('resting')) return true;
    for (const action of at.entry as readonly (string | Named)[]) {
      const type = typeof action === 'string' ? action : String(action?.type);
      if (/^(startLimit|limit[A-Z]\w*)$/.test(type) || options.pending?.includes(type)) return true;
    }
  }
  return false;
}

function ofAction(action: unknown, where: string, implementations: Implementations): string[] {
  if (typeof action === 'function') return [`${where}: an inline action`];
  const { type, params } = (typeof action === 'string' ? { type: action } : action) as Named;
  if (typeof type !== 'string' || !(type in implementations.actions))
    return [`${where}: the action ${String(type)} is not in setup`];
  return isJson(params) ? [] : [`${where}: the params of ${type} are not JSON`];
}

function ofGuard(guard: unknown, where: string, implementations: Implementations): string[] {
  if (typeof guard === 'function') return [`${where}: an inline guard`];
  const { type, params } = (typeof guard === 'string' ? { type: guard } : guard) as Named;
  if (typeof type !== 'string' || !(type in implementations.guards))
    return [`${where}: the guard ${String(type)} is not in setup`];
  return isJson(params) ? [] : [`${where}: the params of ${type} are not JSON`];
}

/** What setup names: an action is an assign or a bare name; nothing acts, waits, spawns or looks at a clock. */
function ofSetup(machine: AnyStateMachine): string[] {
  const implementations = machine.implementations as unknown as Implementations;
  const found: string[] = [];
  for (const [name, action] of Object.entries(implementations.actions)) {
    const builtin = (action as { type?: unknown }).type;
    if (typeof builtin === 'string' && builtin.startsWith('xstate.')) {
      if (!PURE_BUILTINS.has(builtin)) found.push(`the action ${name} is ${builtin}`);
      else if (builtin === 'xstate.raise' && (action as { delay?: unknown }).delay !== undefined)
        found.push(`the action ${name} raises with a delay`);
      else if (IMPURE.test(sourcesOf((action as { assignment?: unknown }).assignment)))
        found.push(`the action ${name} is not pure`);
    } else if (typeof action === 'function' && !EMPTY.test(String(action).trim())) {
      found.push(`the action ${name} acts by itself`);
    }
  }
  for (const [name, guard] of Object.entries(implementations.guards)) {
    if (IMPURE.test(String(guard))) found.push(`the guard ${name} is not pure`);
  }
  for (const name of Object.keys(implementations.delays)) found.push(`there is a delay: ${name}`);
  for (const name of Object.keys(implementations.actors)) found.push(`there is an actor to spawn: ${name}`);
  return found;
}

function sourcesOf(assignment: unknown): string {
  if (typeof assignment === 'function') return String(assignment);
  return Object.values((assignment ?? {}) as object)
    .map(String)
    .join('\n');
}

function ofContext(machine: AnyStateMachine): string[] {
  const context = (machine.config as { context?: unknown }).context;
  if (context === undefined) return [];
  try {
    const made = typeof context === 'function' ? context({ input: undefined, spawn: null, self: null }) : context;
    return isJson(made) ? [] : ['the context is not JSON'];
  } catch (error) {
    return [`the context cannot be made without input: ${String(error)}`];
  }
}

/** True if the value is JSON, and the same after a trip through it. */
export function isJson(value: unknown): boolean {
  if (value === undefined) return true;
  return survives(value);
}

function survives(value: unknown): boolean {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return true;
  if (typeof value === 'number') return Number.isFinite(value);
  if (Array.isArray(value)) return value.every((item) => item !== undefined && survives(item));
  if (typeof value !== 'object') return false;
  const prototype = Object.getPrototypeOf(value) as unknown;
  return (
    (prototype === Object.prototype || prototype === null) &&
    Object.values(value).every((item) => item !== undefined && survives(item))
  );
}
