// Who holds what until when: a row for each node, with its slots now and a bar for each holder over the next days.
import { memo, useMemo, useState } from 'react';
import { dayOf, hourOf, moment } from '../format.ts';
import type { BoardNode, Hold } from '../types.ts';
import { useNowBy } from '../ui/now.ts';
import { linkTo } from '../ui/route.ts';
import { VirtualList } from '../ui/virtual-list.tsx';

const HOUR = 3_600_000;
/** The short ones are for a service whose time runs faster. */
const RANGES: [hours: number, name: string][] = [
  [0.25, '15 min'],
  [1, '1 hour'],
  [6, '6 hours'],
  [24, '1 day'],
  [72, '3 days'],
  [168, '1 week'],
];
const ROW = 48;
/** So much of what has been is shown. */
const PAST = 0.08;

/** More nodes than these are not looked through with each update. */
const FEW = 100;

/** The shortest range that holds all that is held, until another is chosen: a day at most. */
function useRange(nodes: readonly BoardNode[]): [hours: number, choose: (hours: number) => void] {
  const [chosen, choose] = useState<number | null>(null);
  const few = nodes.length > FEW ? null : nodes;
  const fitting = useMemo(() => {
    const now = Date.now();
    let last = 0;
    for (const { holds } of few ?? []) {
      for (const { until } of holds) last = Math.max(last, until === null ? Number.POSITIVE_INFINITY : Date.parse(until) - now);
    }
    if (last === 0) return 24;
    return RANGES.find(([hours]) => hours * HOUR * (1 - PAST) >= last || hours === 24)![0];
  }, [few]);
  return [chosen ?? fitting, choose];
}

export function Calendar({ nodes }: { nodes: readonly BoardNode[] }) {
  const [hours, setHours] = useRange(nodes);
  const now = useNowBy(Math.max(1_000, hours * 3_600));
  const range = useMemo(() => ({ from: now - hours * HOUR * PAST, to: now + hours * HOUR * (1 - PAST) }), [now, hours]);
  return (
    <div className="calendar">
      <div className="row" role="group" aria-label="How far ahead">
        {RANGES.map(([each, name]) => (
          <button key={each} type="button" className="small" aria-pressed={each === hours} onClick={() => setHours(each)}>
            {name}
          </button>
        ))}
      </div>
      <div className="node-row axis" aria-hidden="true">
        <span />
        <span />
        <span className="track">
          {ticks(range.from, range.to, hours).map((at) => (
            <span key={at} className="tick" style={{ left: `${place(at, range)}%` }}>
              {hours > 24 ? dayOf(at) : hourOf(at)}
            </span>
          ))}
        </span>
      </div>
      <VirtualList items={nodes} rowHeight={ROW} height={ROW * 12} keyOf={({ node }) => node} label="Nodes">
        {(node) => <NodeRow node={node} from={range.from} to={range.to} now={now} />}
      </VirtualList>
    </div>
  );
}

function ticks(from: number, to: number, hours: number): number[] {
  const step = (hours < 1 ? 1 / 20 : hours <= 1 ? 1 / 6 : hours <= 6 ? 1 : hours <= 24 ? 4 : 24) * HOUR;
  const zone = new Date(from).getTimezoneOffset() * 60_000;
  const found: number[] = [];
  for (let at = Math.ceil((from - zone) / step) * step + zone; at < to; at += step) found.push(at);
  return found;
}

const place = (at: number, { from, to }: { from: number; to: number }): number =>
  Math.max(0, Math.min(100, ((at - from) / (to - from)) * 100));

/** 0, 1, … */
const numbers = (count: number): number[] => [...Array(count).keys()];

const HEALTH = { ok: '', draining: 'draining', unhealthy: 'unhealthy' };

const NodeRow = memo(({ node, from, to, now }: { node: BoardNode; from: number; to: number; now: number }) => {
  const { holds, slots, health, reason, foreign } = node;
  const bySlot = new Map(holds.flatMap((hold) => hold.slots.map((slot) => [slot, hold] as const)));
  const all = Math.max(slots, ...holds.flatMap((hold) => hold.slots.map((slot) => slot + 1)));
  const taken = bySlot.size + foreign;
  return (
    <div className="node-row" data-health={health}>
      <span className="node-name" title={reason ?? node.node}>
        {node.node}
        <span className="quiet">
          {' '}
          {node.gpu_type}
          {health === 'ok' ? '' : ` · ${HEALTH[health]}`}
        </span>
      </span>
      <span
        className="slots"
        role="img"
        aria-label={`${Math.max(0, all - taken)} of ${all} free${health === 'ok' ? '' : `, ${HEALTH[health]}`}`}
      >
        {numbers(all).map((slot) => (
          <span
            key={slot}
            className="slot"
            data-state={bySlot.get(slot)?.state ?? (slot >= all - foreign ? 'foreign' : 'free')}
          />
        ))}
      </span>
      <span className="track">
        {holds.map((hold) => (
          <HoldBar key={`${hold.since}${hold.slots[0]}`} hold={hold} from={from} to={to} all={all} now={now} />
        ))}
        <span className="now-line" style={{ left: `${place(now, { from, to })}%` }} />
      </span>
    </div>
  );
});

interface BarProps {
  hold: Hold;
  from: number;
  to: number;
  all: number;
  now: number;
}

const HoldBar = memo(({ hold, from, to, all, now }: BarProps) => {
  const { user, name, state, slots, since, until, planned, id } = hold;
  const left = place(Date.parse(since), { from, to });
  const right = until === null ? 100 : place(Math.max(Date.parse(until), now), { from, to });
  const ends = until === null ? 'until nobody knows' : `until ${planned ? 'about ' : ''}${moment(until, now)}`;
  const text = `${user ?? 'somebody'}, ${slots.length} of ${all}, ${ends}`;
  const style = {
    left: `${left}%`,
    width: `${Math.max(0.6, right - left)}%`,
    top: `${(slots[0]! / all) * 100}%`,
    height: `${(slots.length / all) * 100}%`,
    // The name begins behind the line of now.
    paddingLeft: `calc(${Math.max(0, place(now, { from, to }) - left)}% + 4px)`,
  };
  // A name that has no room is in the title alone.
  const label = slots.length / all >= 0.35 && right - left >= 4 ? (user ?? '') : '';
  const title = `${name ?? 'Unknown'}: ${text}${state === null ? '' : `, ${state}`}`;
  if (id === undefined) {
    return (
      <span className="hold" role="img" data-held={state} data-planned={planned} style={style} title={title} aria-label={title}>
        {label}
      </span>
    );
  }
  return (
    <a
      className="hold"
      href={linkTo('reservation', id)}
      data-held={state}
      data-planned={planned}
      style={style}
      title={title}
      aria-label={title}
    >
      {label}
    </a>
  );
}, sameBar);

/** A node that has changed comes whole; of its bars only those that tell something else are drawn anew. */
function sameBar(before: BarProps, after: BarProps): boolean {
  const { hold: a, ...around } = before;
  const { hold: b, ...now } = after;
  if (around.from !== now.from || around.to !== now.to || around.all !== now.all || around.now !== now.now) return false;
  return (
    a.until === b.until &&
    a.state === b.state &&
    a.planned === b.planned &&
    a.id === b.id &&
    a.since === b.since &&
    a.name === b.name &&
    a.user === b.user &&
    a.slots.length === b.slots.length &&
    a.slots.every((slot, index) => slot === b.slots[index])
  );
}
