// What operators look at: whether the service can work, and what could not be done.
import { useEffect, useId, useState } from 'react';
import { post, useGet } from '../api.ts';
import { count, duration, exact, relative } from '../format.ts';
import { operations, useLive } from '../live.ts';
import type { Check, DeadLetter, OperationsFrame } from '../types.ts';
import { Act, Confirm, Empty, Loading, Problem } from '../ui/parts.tsx';
import { useNow } from '../ui/now.ts';
import { linkTo } from '../ui/route.ts';
import { useStore } from '../ui/store.ts';

export default function OperatorsPage() {
  useLive('operations');
  const frame = useStore(operations);
  return (
    <div className="page operators">
      <h1>Operators</h1>
      {frame === null ? (
        <Loading what="the state of the service" />
      ) : (
        <>
          <Health frame={frame} />
          <DeadLetters ids={frame.letters} open={frame.totals.deadLettersOpen} />
          <Retries frame={frame} />
        </>
      )}
    </div>
  );
}

function Health({ frame }: { frame: OperationsFrame }) {
  const { health, totals, trackerAgeSeconds, replicas, connections, databaseMs, leases } = frame;
  return (
    <section aria-labelledby="health">
      <h2 id="health">Health</h2>
      <ul className="tiles">
        <CheckTile
          name="Database"
          check={health.database}
          more={`${databaseMs} ms, ${connections['total'] ?? 0} connections, ${connections['waiting'] ?? 0} wait`}
        />
        <CheckTile name="Queues" check={health.queue} more="" />
        <CheckTile
          name="Cluster"
          check={health.tracker}
          more={trackerAgeSeconds === null ? '' : `its view is ${duration(trackerAgeSeconds * 1_000)} old`}
        />
        <Tile
          name="Replicas"
          value={count(replicas)}
          more={leases.map(({ name, held }) => `${name}${held ? '' : ' (nobody)'}`).join(', ')}
          bad={replicas === 0}
        />
        <Tile
          name="Mailbox"
          value={count(totals.mailbox)}
          more={`oldest ${totals.oldestMailSeconds} s, ${totals.mailboxHeld} held`}
          bad={totals.oldestMailSeconds > 10}
        />
        <Tile name="Effects" value={count(totals.effectsPending)} more="wait or run" bad={false} />
        <Tile
          name="Deadlines"
          value={`${totals.lateDeadlineSeconds} s`}
          more="late at most"
          bad={totals.lateDeadlineSeconds > 5}
        />
        <Tile name="Quarantined" value={count(totals.quarantined)} more="actors" bad={totals.quarantined > 0} />
      </ul>
    </section>
  );
}

function CheckTile({ name, check, more }: { name: string; check: Check; more: string }) {
  return (
    <Tile
      name={name}
      value={check.ok ? 'OK' : 'Trouble'}
      more={`${check.detail}${more === '' ? '' : `; ${more}`}`}
      bad={!check.ok}
    />
  );
}

function Tile({ name, value, more, bad }: { name: string; value: string; more: string; bad: boolean }) {
  return (
    <li className="tile" data-bad={bad}>
      <span className="quiet">{name}</span>
      <b>{value}</b>
      <span className="quiet">{more}</span>
    </li>
  );
}

function DeadLetters({ ids, open }: { ids: readonly number[]; open: number }) {
  const { data, error, reload } = useGet<{ dead_letters: DeadLetter[] }>('/v1/admin/dead-letters?limit=200');
  const key = ids.join(' ');
  // biome-ignore lint/correctness/useExhaustiveDependencies: other letters are there than before
  useEffect(reload, [key]);
  const letters = data?.dead_letters ?? [];
  return (
    <section aria-labelledby="letters">
      <h2 id="letters">Dead letters: {count(open)}</h2>
      {error === null ? null : <Problem error={error} retry={reload} />}
      {data !== null && letters.length === 0 ? (
        <Empty title="None">Everything that came was understood and processed.</Empty>
      ) : null}
      <ul className="letters">
        {letters.map((letter) => (
          <Letter key={letter.id} letter={letter} onDone={reload} />
        ))}
      </ul>
    </section>
  );
}

function Letter({ letter, onDone }: { letter: DeadLetter; onDone: () => void }) {
  const { id, source, queue, actor, code, field, reason, created_at, body } = letter;
  const now = useNow();
  const [why, setWhy] = useState('');
  const input = useId();
  const reservation = actor?.startsWith('reservation/') === true ? actor.slice('reservation/'.length) : null;
  return (
    <li className="card" data-letter={id}>
      <div className="row">
        <b>{code}</b>
        <span className="quiet">
          {source} {queue ?? ''} {field === null ? '' : `field ${field}`}
        </span>
        {reservation === null ? (
          <span className="quiet">{actor}</span>
        ) : (
          <a href={linkTo('reservation', reservation)}>its reservation</a>
        )}
        <span className="quiet" title={exact(created_at)}>
          {relative(created_at, now)}
        </span>
      </div>
      <p>{reason}</p>
      <details>
        <summary>The message</summary>
        <pre>{JSON.stringify(body, null, 2)}</pre>
      </details>
      <div className="row">
        <Confirm
          label="Replay"
          question={`Replay dead letter ${id}?`}
          yes="Replay"
          onYes={async () => {
            await post(`/v1/admin/dead-letters/${id}/replay`, {});
            onDone();
          }}
        >
          <p>It goes through the door once more, as it was sent.</p>
        </Confirm>
        <Confirm
          label="Drop"
          question={`Drop dead letter ${id}?`}
          yes="Drop"
          danger
          onYes={async () => {
            await post(`/v1/admin/dead-letters/${id}/drop`, { reason: why });
            onDone();
          }}
        >
          <p>
            <label htmlFor={input}>Why it is not needed </label>
            <input id={input} value={why} autoComplete="off" onChange={(event) => setWhy(event.target.value)} />
          </p>
        </Confirm>
      </div>
    </li>
  );
}

function Retries({ frame: { retries } }: { frame: OperationsFrame }) {
  const now = useNow();
  return (
    <section aria-labelledby="retries">
      <h2 id="retries">Effects that are tried again: {retries.length}</h2>
      {retries.length === 0 ? (
        <Empty title="None">What was asked of the cluster was done at the first try.</Empty>
      ) : (
        <div className="scroll" role="group" aria-label="Effects that are tried again" tabIndex={0}>
          <table className="list">
            <thead>
              <tr>
                <th scope="col">Effect</th>
                <th scope="col">Of</th>
                <th scope="col">Tries</th>
                <th scope="col">Next</th>
                <th scope="col">Last error</th>
                <th scope="col">
                  <span className="hidden">What can be done</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {retries.map(({ id, actor, type, attempts, running, next_at, last_error }) => (
                <tr key={id} data-effect={id}>
                  <td>{type}</td>
                  <td>
                    {actor.startsWith('reservation/') ? <a href={linkTo('reservation', actor.slice(12))}>{actor}</a> : actor}
                  </td>
                  <td className="number">{attempts}</td>
                  <td className="when">{running ? 'runs' : relative(next_at, now)}</td>
                  <td className="error-text">{last_error ?? 'Whoever ran it has died.'}</td>
                  <td>
                    <Act
                      label="Retry now"
                      name={`Retry ${type} of ${actor} now`}
                      disabled={running}
                      onAct={async () => void (await post('/v1/admin/effects/retry', { effect_id: id }))}
                    />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
