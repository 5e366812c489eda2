// One reservation: where it is, how it came there, what is under way, and how it was at any time.
import { useEffect, useMemo, useState } from 'react';
import { useGet } from '../api.ts';
import { ChartView, type Picture } from '../chart/chart.tsx';
import { Details } from '../chart/details.tsx';
import { exact, moment as momentText, relative, shortId } from '../format.ts';
import { useLive } from '../live.ts';
import { Actions } from '../reservation/actions.tsx';
import { BuildLog } from '../reservation/build-log.tsx';
import { Effects } from '../reservation/effects.tsx';
import { Travel } from '../reservation/travel.tsx';
import { useReservation } from '../reservation/use-reservation.ts';
import { Waterfall } from '../reservation/waterfall.tsx';
import type { Me } from '../session.ts';
import type { Chart, History, Moment, Reservation } from '../types.ts';
import { Copy, Loading, Problem, StateChip } from '../ui/parts.tsx';
import { useNow } from '../ui/now.ts';
import { linkTo } from '../ui/route.ts';

export default function ReservationPage({ id, me }: { id: string; me: Me }) {
  const { reservation, history, spans, error } = useReservation(id);
  useLive('effects,build-log', id);
  const [seq, setSeq] = useState<number | null>(null);
  const [chosen, setChosen] = useState<string | null>(null);
  const { data: chart } = useGet<Chart>('/v1/machines/reservation/graph');
  const last = history?.entries.at(-1)?.seq ?? 0;
  const { data: moment, error: momentError } = useGet<Moment>(seq === null ? null : `/v1/reservations/${id}/at/${seq}`);
  const shownMoment = useLatest(moment, seq);
  const { data: newest } = useGet<Moment>(last === 0 ? null : `/v1/reservations/${id}/at/${last}`);
  const shownNewest = useLatest(newest, last);
  const active = useMemo(
    () => new Set(seq === null ? pathsOf(reservation) : (shownMoment?.states ?? [])),
    [seq, shownMoment, reservation],
  );
  const picture = useMemo<Picture>(
    () => ({
      machine: 'reservation',
      numbers: false,
      active,
      past: seq !== null,
      chosen,
      choose: (each) => setChosen((now) => (now === each ? null : each)),
    }),
    [active, seq, chosen],
  );
  if (error !== null && reservation === null) {
    return (
      <div className="page">
        <h1>Reservation {shortId(id)}</h1>
        <Problem error={error} />
        <p>
          <a href={linkTo('board')}>Back to the board</a>
        </p>
      </div>
    );
  }
  if (reservation === null) return <Loading what="the reservation" />;
  return (
    <div className="page reservation">
      <Head reservation={reservation} me={me} />
      {chart === null ? (
        <Loading what="the chart" />
      ) : (
        <div className="chart-with-details" data-open={chosen !== null}>
          <ChartView chart={chart} picture={picture} label="Where it is in its lifecycle" />
          {chosen === null ? null : <Details chart={chart} chosen={chosen} onClose={() => setChosen(null)} />}
        </div>
      )}
      <Travel last={last} seq={seq} moment={shownMoment} error={momentError} choose={setSeq} />
      <section aria-labelledby="steps">
        <h2 id="steps">Steps</h2>
        <Waterfall spans={spans} chosen={seq} choose={setSeq} />
      </section>
      <BuildLog />
      {history === null ? null : (
        <div className="columns wide">
          <div>
            <Effects history={history} />
            <Takes moment={shownNewest} />
          </div>
          <Messages history={history} seq={seq} choose={setSeq} />
        </div>
      )}
    </div>
  );
}

/** While the next moment is on its way the one before stays in sight. */
function useLatest(moment: Moment | null, seq: number | null): Moment | null {
  const [shown, setShown] = useState<Moment | null>(null);
  useEffect(() => {
    if (moment !== null || seq === null) setShown(moment);
  }, [moment, seq]);
  return shown;
}

function pathsOf(reservation: Reservation | null): string[] {
  if (reservation === null) return [];
  const parts = [reservation.state, ...(reservation.substate?.split('.') ?? [])];
  return parts.map((_, index) => parts.slice(0, index + 1).join('.'));
}

function Head({ reservation, me }: { reservation: Reservation; me: Me }) {
  const now = useNow();
  const { name, state, substate, detail, gpu_type, gpu_count, user_id, expires_at, ended_at, failure_reason, ssh_command } =
    reservation;
  const { position, estimated_start, waits_because, node, jupyter, disk } = reservation;
  return (
    <header className="reservation-head">
      <h1>
        {name} <StateChip state={state}>{substate === null ? state : `${state} · ${substate}`}</StateChip>
      </h1>
      <p aria-live="polite">{detail}</p>
      <dl className="facts">
        <Fact name="Id">
          <code>{reservation.id}</code> <Copy text={reservation.id} label="Copy id" />
        </Fact>
        {user_id === me.username ? null : <Fact name="Owner">{user_id}</Fact>}
        <Fact name="GPUs">
          {gpu_count} × {gpu_type}
          {node === null ? '' : ` on ${node}`}
        </Fact>
        {disk === null ? null : <Fact name="Disk">{disk.name}</Fact>}
        {position === null ? null : (
          <Fact name="Place in the queue">
            {position}
            {estimated_start === null ? '' : `, expected to start ${relative(estimated_start, now)}`}
            {waits_because === null ? '' : `. ${waits_because}`}
          </Fact>
        )}
        {expires_at === null || ended_at !== null ? null : (
          <Fact name="Ends">
            {relative(expires_at, now)} ({momentText(expires_at, now)})
          </Fact>
        )}
        {ended_at === null ? null : <Fact name="Ended">{exact(ended_at)}</Fact>}
        {failure_reason === null ? null : <Fact name="Because">{failure_reason}</Fact>}
        {ssh_command === null || ended_at !== null ? null : (
          <Fact name="Connect">
            <code>{ssh_command}</code> <Copy text={ssh_command} label="Copy" />
          </Fact>
        )}
        {jupyter.state === 'off' ? null : (
          <Fact name="Jupyter">
            {jupyter.url !== null && jupyter.state === 'on' ? <a href={jupyter.url}>{jupyter.url}</a> : jupyter.state}
            {jupyter.error === null ? '' : `: ${jupyter.error}`}
          </Fact>
        )}
      </dl>
      <Actions reservation={reservation} />
      {me.is_admin ? <Inspector id={reservation.id} /> : null}
    </header>
  );
}

/** Where it is switched on. */
function Inspector({ id }: { id: string }) {
  const { data } = useGet<{ links: Record<string, string> }>('/');
  const bridge = data?.links['inspector'];
  if (bridge === undefined) return null;
  return (
    <p>
      <a href={`${bridge}?reservation=${encodeURIComponent(id)}`}>Show it in Stately’s inspector</a>
    </p>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** Every event that its machine takes now; the buttons above send those that people may send. */
function Takes({ moment }: { moment: Moment | null }) {
  if (moment === null) return null;
  const byEvent = Map.groupBy(moment.accepts, ({ event }) => event);
  return (
    <section aria-labelledby="takes">
      <h2 id="takes">What it takes now</h2>
      {byEvent.size === 0 ? <p className="quiet">Nothing any more.</p> : null}
      <ul className="events">
        {[...byEvent].map(([event, ways]) => (
          <li key={event} title={ways.every(({ guarded }) => guarded) ? 'If it fits' : undefined}>
            {event}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Messages({ history, seq, choose }: { history: History; seq: number | null; choose: (seq: number) => void }) {
  return (
    <section aria-labelledby="messages">
      <h2 id="messages">Messages</h2>
      <div className="scroll" role="group" aria-label="Messages" tabIndex={0}>
        <ol className="messages">
          {history.entries.toReversed().map((entry) => (
            <li key={entry.seq} data-outcome={entry.outcome} data-chosen={entry.seq === seq || undefined}>
              <button type="button" className="link" onClick={() => choose(entry.seq)}>
                {entry.seq}. {entry.type}
              </button>
              <span className="quiet">
                {' '}
                {exact(entry.at)}, {entry.outcome === 'applied' ? '' : `${entry.outcome}: ${entry.reason ?? ''}, `}
                {entry.from === entry.to ? (entry.to ?? '') : `${entry.from ?? 'birth'} → ${entry.to ?? ''}`}
              </span>
            </li>
          ))}
        </ol>
      </div>
    </section>
  );
}
