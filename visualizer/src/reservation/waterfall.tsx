// How long each step took: one bar for each stay, from the beginning to the end or to now.
import { duration, exact } from '../format.ts';
import type { Span } from '../types.ts';
import { useNow } from '../ui/now.ts';

/** Stays in the queue or of the server itself dwarf the steps between; each bar has a part of the width at least. */
const LEAST = 0.5;

export function Waterfall({
  spans,
  chosen,
  choose,
}: {
  spans: readonly Span[];
  chosen: number | null;
  choose: (seq: number) => void;
}) {
  const now = useNow();
  const first = spans[0];
  if (first === undefined) return null;
  const begin = Date.parse(first.entered_at);
  const last = spans.at(-1)!;
  const ended = /^(expired|failed|cancelled)$/.test(last.path);
  const end = Math.max(begin + 1, ended ? Date.parse(last.entered_at) : now);
  const at = (ms: number) => ((ms - begin) / (end - begin)) * (100 - LEAST);
  return (
    <table className="waterfall">
      <caption className="hidden">Steps and how long they took</caption>
      <colgroup>
        <col className="step" />
        <col className="took" />
        <col />
      </colgroup>
      <tbody>
        {spans.map(({ path, seq, entered_at, left_at }) => {
          const from = Date.parse(entered_at);
          const isLast = seq === last.seq;
          const to = left_at === null ? end : Date.parse(left_at);
          const over = ended && isLast;
          return (
            <tr key={seq} data-chosen={seq === chosen || undefined}>
              <th scope="row">
                <button type="button" className="link" onClick={() => choose(seq)} title={`Entered ${exact(entered_at)}`}>
                  {path}
                </button>
              </th>
              <td className="number">{over ? '' : duration(to - from)}</td>
              <td className="bars">
                <span
                  className="bar"
                  data-state={path.split('.')[0]}
                  data-open={left_at === null && !over}
                  style={{ left: `${at(from)}%`, width: `${Math.max(LEAST, at(to) - at(from))}%` }}
                />
              </td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}
