// What the one who looks may ask of a reservation now.
import { useId, useState } from 'react';
import { post } from '../api.ts';
import type { Reservation, UserEvent } from '../types.ts';
import { Act, Confirm } from '../ui/parts.tsx';

/** Hours that are offered. */
const HOURS = [1, 2, 4, 8, 12, 24];

export async function sendEvent(id: string, event: { type: UserEvent; [field: string]: unknown }): Promise<void> {
  await post(`/v1/reservations/${id}/events`, event);
}

export function Extend({ reservation }: { reservation: Reservation }) {
  const [hours, setHours] = useState(2);
  const field = useId();
  return (
    <Confirm
      label="Extend"
      question={`Extend ${reservation.name}`}
      yes="Extend"
      onYes={() => sendEvent(reservation.id, { type: 'extend', extension_hours: hours })}
    >
      <p>
        <label htmlFor={field}>By how many hours </label>
        <select id={field} value={hours} onChange={(event) => setHours(Number(event.target.value))}>
          {HOURS.map((each) => (
            <option key={each} value={each}>
              {each}
            </option>
          ))}
        </select>
      </p>
    </Confirm>
  );
}

export function Cancel({ reservation }: { reservation: Reservation }) {
  return (
    <Confirm
      label="Cancel"
      question={`Cancel ${reservation.name}?`}
      yes="Cancel the reservation"
      danger
      onYes={() => sendEvent(reservation.id, { type: 'cancel' })}
    >
      <p>{reservation.launched_at === null ? 'It gives up its place.' : 'The server ends; a persistent disk is saved first.'}</p>
    </Confirm>
  );
}

function Person({ reservation, type }: { reservation: Reservation; type: 'add_user' | 'remove_user' }) {
  const [name, setName] = useState('');
  const field = useId();
  const adds = type === 'add_user';
  return (
    <Confirm
      label={adds ? 'Let somebody in' : 'Let somebody out'}
      question={adds ? 'Who may log in?' : 'Who may log in no longer?'}
      yes={adds ? 'Let in' : 'Let out'}
      onYes={() => sendEvent(reservation.id, { type, github_username: name })}
    >
      <p>
        <label htmlFor={field}>GitHub user name </label>
        {adds ? (
          <input id={field} value={name} autoComplete="off" onChange={(event) => setName(event.target.value)} />
        ) : (
          <select id={field} value={name} onChange={(event) => setName(event.target.value)}>
            <option value="">Choose</option>
            {reservation.secondary_users.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        )}
      </p>
    </Confirm>
  );
}

function Plain({ reservation, type, label }: { reservation: Reservation; type: UserEvent; label: string }) {
  return <Act label={label} onAct={() => sendEvent(reservation.id, { type })} />;
}

/** A button for each event that the machine takes now. */
export function Actions({ reservation }: { reservation: Reservation }) {
  const { accepts } = reservation;
  const takes = (type: UserEvent) => accepts.includes(type);
  return (
    <div className="row" role="group" aria-label={`What ${reservation.name} takes now`}>
      {takes('extend') ? <Extend reservation={reservation} /> : null}
      {takes('enable_jupyter') ? <Plain reservation={reservation} type="enable_jupyter" label="Switch Jupyter on" /> : null}
      {takes('disable_jupyter') ? <Plain reservation={reservation} type="disable_jupyter" label="Switch Jupyter off" /> : null}
      {takes('add_user') ? <Person reservation={reservation} type="add_user" /> : null}
      {takes('remove_user') && reservation.secondary_users.length > 0 ? (
        <Person reservation={reservation} type="remove_user" />
      ) : null}
      {takes('cancel') ? <Cancel reservation={reservation} /> : null}
    </div>
  );
}
