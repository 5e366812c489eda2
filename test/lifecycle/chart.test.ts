import { createMachine } from 'xstate';
import { describe, expect, it } from 'vitest';
import { nodesOf } from '../../machines/rules.ts';
import { MACHINES } from '../../src/lifecycle/charts.ts';
import { type Chart, chartOf } from '../../src/lifecycle/graph.ts';
import { Layouts, layOut, type PlacedChart } from '../../src/lifecycle/layout.ts';
import { transitionNames } from '../model/graph.ts';

/** All that a chart draws, in the words of the machine's own list of transitions. */
function drawnNames(chart: Chart): string[] {
  const alternatives = new Map<string, { from: string; event: string; index: number; guard: string | null; to: Set<string> }>();
  for (const transition of [
    ...chart.nodes.flatMap(({ stays }) => stays),
    ...chart.edges.flatMap(({ transitions }) => transitions),
  ]) {
    const [from = '', event = '', index = ''] = transition.id.split('|');
    const own = alternatives.get(transition.id) ?? { from, event, index: Number(index), guard: transition.guard, to: new Set() };
    if (transition.to !== null) own.to.add(transition.to);
    alternatives.set(transition.id, own);
  }
  return [...alternatives.values()].map(
    ({ from, event, index, guard, to }) =>
      `${from} --${event}[${index}]${guard === null ? '' : ` if ${guard.replace(/\(.*\)$/, '')}`}--> ${to.size === 0 ? '(stays)' : [...to].join(', ')}`,
  );
}

const STRANGE = createMachine({
  id: 'strange',
  version: '1',
  initial: 'both',
  on: { reset: '.both', stay: { actions: 'note' }, all: { target: '.alone', guard: 'isAll' } },
  states: {
    both: {
      type: 'parallel',
      states: {
        left: { initial: 'a', states: { a: { on: { go: 'b' } }, b: { always: { target: '#strange.alone', guard: 'isDone' } } } },
        right: { initial: 'c', states: { c: { on: { go: ['d'] } }, d: {}, was: { type: 'history', history: 'deep' } } },
      },
      on: { again: { target: 'both', reenter: true }, jump: { target: ['.left.b', '.right.d'] } },
    },
    alone: { on: { back: 'both', up: '#strange' }, initial: 'deep', states: { deep: { on: { out: '#strange.alone' } } } },
  },
});

describe.each([...Object.entries(MACHINES), ['strange', STRANGE] as const])('the chart of %s', (name, machine) => {
  const chart = chartOf(name, machine);

  it('draws every state once, in its parent', () => {
    const states = chart.nodes.filter(({ type }) => type !== 'initial' && type !== 'any');
    expect(states.map(({ id, parent }) => [id, parent])).toEqual(
      nodesOf(machine).map((node) => [node.id, node.parent?.id ?? null]),
    );
    expect(states.map(({ description }) => description)).toEqual(nodesOf(machine).map((node) => node.description ?? ''));
  });

  it('draws every transition: those of the root, transient ones, and those that stay', () => {
    expect(drawnNames(chart).sort()).toEqual(transitionNames(machine).sort());
  });

  it('draws ways between neighbours only, and marks where each state begins', () => {
    const parents = new Map(chart.nodes.map(({ id, parent }) => [id, parent]));
    for (const edge of chart.edges)
      expect([parents.get(edge.source), parents.get(edge.target)]).toEqual([edge.within, edge.within]);
    for (const node of chart.nodes.filter(({ type }) => type === 'compound')) {
      expect(chart.edges.filter(({ source }) => source === `${node.id}:initial`).map(({ within }) => within)).toEqual([node.id]);
    }
  });

  it('is laid out without overlaps: neighbours apart, children within their parent, ways with both their ends', async () => {
    const placed = await layOut(chart);
    for (const node of placed.nodes) {
      const parent = placed.nodes.find(({ id }) => id === node.parent);
      if (parent !== undefined) expect(within(node, parent), `${node.id} in ${parent.id}`).toBe(true);
      const beside = placed.nodes.filter((each) => each.parent === node.parent && each.id !== node.id);
      expect(beside.filter((each) => overlaps(node, each)).map(({ id }) => id)).toEqual([]);
    }
    for (const { id, points } of placed.edges) expect(points.length, id).toBeGreaterThan(1);
    expect(labelsOnStates(placed)).toEqual([]);
  });
});

it('laying out does not hold up the process, and is done once for all who ask', async () => {
  let done = 0;
  const layouts = new Layouts(async (chart) => {
    const placed = await layOut(chart);
    done++;
    return placed;
  });
  const chart = chartOf('reservation', MACHINES['reservation']!);
  const begun = performance.now();
  let last = begun;
  let longest = 0;
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 1);
  const both = await Promise.all([layouts.placed(chart), layouts.placed(chart)]);
  clearInterval(timer);
  expect(both[0]).toBe(both[1]);
  expect(done).toBe(1);
  // The layout itself takes most of the time that passes; this process goes on meanwhile.
  expect(longest).toBeLessThan((performance.now() - begun) / 2);
});

it('a layout that failed is tried again', async () => {
  let tries = 0;
  const layouts = new Layouts((chart) => {
    tries++;
    return tries === 1 ? Promise.reject(new Error('no room')) : layOut(chart);
  });
  const chart = chartOf('image', MACHINES['image']!);
  await expect(layouts.placed(chart)).rejects.toThrow('no room');
  expect((await layouts.placed(chart)).machine).toBe('image');
});

type Rectangle = { x: number; y: number; width: number; height: number };

function overlaps(a: Rectangle, b: Rectangle): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

/** `inner` is measured from the corner of `outer`. */
function within(inner: Rectangle, outer: Rectangle): boolean {
  return inner.x >= 0 && inner.y >= 0 && inner.x + inner.width <= outer.width && inner.y + inner.height <= outer.height;
}

/** Labels that lie on a state without states in it, or on one another. */
function labelsOnStates({ nodes, edges }: PlacedChart): string[] {
  const corners = new Map<string, Rectangle>();
  for (const node of nodes) {
    const parent = node.parent === null ? { x: 0, y: 0 } : corners.get(node.parent)!;
    corners.set(node.id, { ...node, x: parent.x + node.x, y: parent.y + node.y });
  }
  const leaves = nodes
    .filter(({ id }) => !nodes.some(({ parent }) => parent === id))
    .map(({ id }) => ({ id, ...corners.get(id)! }));
  const labels = edges.filter(({ lines }) => lines.length > 0);
  return labels.flatMap(({ id, label }, index) => [
    ...leaves.filter((leaf) => overlaps(label, leaf)).map((leaf) => `${id} on ${leaf.id}`),
    ...labels
      .slice(index + 1)
      .filter((other) => overlaps(label, other.label))
      .map((other) => `${id} on ${other.id}`),
  ]);
}
