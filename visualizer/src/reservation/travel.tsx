// A reservation as it was after any of its steps.
import { useId } from 'react';
import { exact } from '../format.ts';
import type { Moment } from '../types.ts';
import { Problem } from '../ui/parts.tsx';

interface Props {
  last: number;
  seq: number | null;
  moment: Moment | null;
  error: Error | null;
  choose: (seq: number | null) => void;
}

export function Travel({ last, seq, moment, error, choose }: Props) {
  const slider = useId();
  const at = seq ?? last;
  return (
    <section className="travel" aria-labelledby={`${slider}-title`} data-wrong={moment?.matches === false || undefined}>
      <h2 id={`${slider}-title`}>Time travel</h2>
      <div className="row">
        <button type="button" className="small" disabled={at <= 1} onClick={() => choose(at - 1)}>
          Step back
        </button>
        <label htmlFor={slider} className="hidden">
          Step of the history
        </label>
        <input
          id={slider}
          type="range"
          min={1}
          max={Math.max(1, last)}
          value={at}
          aria-valuetext={moment === null ? `Step ${at}` : `Step ${at}: ${moment.type}`}
          onChange={(event) => choose(Number(event.target.value))}
        />
        <button type="button" className="small" disabled={at >= last} onClick={() => choose(at + 1)}>
          Step on
        </button>
        <button type="button" className="small" disabled={seq === null} onClick={() => choose(null)}>
          Now
        </button>
        <span className="quiet">
          Step {at} of {last}
        </span>
      </div>
      {error === null ? null : <Problem error={error} />}
      {seq === null ? (
        <p className="quiet">Move the slider to see the state, what a step changed, and what was under way then.</p>
      ) : moment === null ? null : (
        <MomentView moment={moment} />
      )}
    </section>
  );
}

function MomentView({ moment }: { moment: Moment }) {
  const { outcome, reason, type, states, before, changes, asked, effects, deadlines, accepts, matches, problem } = moment;
  return (
    <div className="moment">
      <p>
        <b>{type}</b> from <span className="quiet">{moment.sender}</span> at {exact(moment.at)}:{' '}
        {outcome === 'applied' ? 'applied' : `${outcome}${reason === null ? '' : `, ${reason}`}`}
      </p>
      <p className={matches === false ? 'problem' : 'quiet'} role={matches === false ? 'alert' : undefined}>
        {matches === true
          ? 'Folding the history anew gives what was stored.'
          : matches === false
            ? `The fold differs from what was stored: ${problem}`
            : `Whether the fold agrees cannot be told: ${problem}`}
      </p>
      <p>
        {before.at(-1) === undefined ? 'Born into' : before.at(-1) === states.at(-1) ? 'Stayed in' : `From ${before.at(-1)} to`}{' '}
        <b>{states.at(-1) ?? 'nowhere'}</b>
      </p>
      <div className="columns">
        <div>
          <h3>Changed in its context</h3>
          {changes.length === 0 ? <p className="quiet">Nothing.</p> : null}
          <dl className="changes">
            {changes.map(({ path, before: was, after: is }) => (
              <div key={path}>
                <dt>{path}</dt>
                <dd>
                  <del>{shown(was)}</del> <ins>{shown(is)}</ins>
                </dd>
              </div>
            ))}
          </dl>
        </div>
        <div>
          <h3>The step asked for</h3>
          {asked.length === 0 ? <p className="quiet">Nothing.</p> : null}
          <ul>
            {asked.map(({ do: what, what: name, at }, index) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: the list of a step never changes, and may hold the same twice
              <li key={index}>
                <span className="quiet">{ASKED[what] ?? what}</span> {name}
                {at === null ? '' : ` at ${exact(at)}`}
              </li>
            ))}
          </ul>
          <h3>Deadlines then</h3>
          {deadlines.length === 0 ? <p className="quiet">None.</p> : null}
          <ul>
            {deadlines.map(({ name, due_at }) => (
              <li key={name}>
                {name} at {exact(due_at)}
              </li>
            ))}
          </ul>
        </div>
        <div>
          <h3>Effects then</h3>
          {effects.length === 0 ? <p className="quiet">None.</p> : null}
          <ul>
            {effects.map(({ id, type: name, status }) => (
              <li key={id}>
                {name} <span className="quiet">{status}</span>
              </li>
            ))}
          </ul>
          <h3>It would have taken</h3>
          <p className="quiet">{[...new Set(accepts.map(({ event }) => event))].join(', ') || 'Nothing any more.'}</p>
        </div>
      </div>
      <details>
        <summary>The whole context and the event</summary>
        <pre>{JSON.stringify({ event: moment.event, context: moment.context }, null, 2)}</pre>
      </details>
    </div>
  );
}

const ASKED: Record<string, string> = { effect: 'do', deadline: 'deadline', clear: 'clear', send: 'send', record: 'record' };

function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
