// Work outside of the database, with its tries; and what is due when.
import { duration, exact, relative } from '../format.ts';
import { effects } from '../live.ts';
import type { History } from '../types.ts';
import { useNow } from '../ui/now.ts';
import { useStore } from '../ui/store.ts';

export function Effects({ history }: { history: History }) {
  const live = useStore(effects);
  const now = useNow();
  const list = live ?? history.effects;
  return (
    <section aria-labelledby="effects">
      <h2 id="effects">Effects</h2>
      {list.length === 0 ? (
        <p className="quiet">None yet.</p>
      ) : (
        <div className="scroll" role="group" aria-label="Effects" tabIndex={0}>
          <table className="list">
            <thead>
              <tr>
                <th scope="col">Effect</th>
                <th scope="col">State</th>
                <th scope="col">Tries</th>
                <th scope="col">Took</th>
                <th scope="col">Last error</th>
              </tr>
            </thead>
            <tbody>
              {list.map(({ id, type, status, running, attempts, created_at, ended_at, next_at, last_error }) => (
                <tr key={id}>
                  <td title={id}>{type}</td>
                  <td>
                    {running ? 'running' : status}
                    {status === 'pending' && !running && attempts > 0 && next_at !== null
                      ? ` (next ${relative(next_at, now)})`
                      : ''}
                  </td>
                  <td className="number">{attempts}</td>
                  <td className="number">
                    {duration((ended_at === null ? now : Date.parse(ended_at)) - Date.parse(created_at))}
                  </td>
                  <td className="error-text">{last_error ?? ''}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <h2>Deadlines</h2>
      {history.deadlines.length === 0 ? (
        <p className="quiet">Nothing is due.</p>
      ) : (
        <ul className="deadlines">
          {history.deadlines.map(({ name, due_at, fired_at }) => (
            <li key={name}>
              <b>{name}</b> {fired_at === null ? relative(due_at, now) : 'fired'} <span className="quiet">{exact(due_at)}</span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
