// GPU types at a glance; one can be chosen.
import { count } from '../format.ts';
import type { GpuType } from '../types.ts';

export function Types({
  types,
  chosen,
  choose,
}: {
  types: readonly GpuType[];
  chosen: string | null;
  choose: (type: string | null) => void;
}) {
  return (
    <ul className="types">
      {types.map(({ gpu_type, description, total, free, in_use, queued, paused_because, maintenance }) => (
        <li key={gpu_type}>
          <button
            type="button"
            className="type"
            aria-pressed={gpu_type === chosen}
            onClick={() => choose(gpu_type === chosen ? null : gpu_type)}
            title={description ?? undefined}
          >
            <span className="type-name">{gpu_type}</span>
            <span className="meter" aria-hidden="true">
              <span style={{ width: `${total === 0 ? 0 : (in_use / total) * 100}%` }} />
            </span>
            <span className="type-numbers">
              <b>{count(free)}</b> free of {count(total)}
              {queued > 0 ? `, ${count(queued)} wait` : ''}
            </span>
            {paused_because === null && maintenance === null ? null : (
              <span className="type-paused">{maintenance?.reason ?? paused_because}</span>
            )}
          </button>
        </li>
      ))}
    </ul>
  );
}
