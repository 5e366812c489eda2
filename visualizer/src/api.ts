// Requests to the API of the service that has brought this page, with the key of the one who looks at it.
import { useCallback, useEffect, useRef, useState } from 'react';
import { keyEnded, problemOf, session } from './session.ts';

function keyHeader(): Record<string, string> {
  const now = session.get();
  return now.state === 'in' ? { authorization: `Bearer ${now.key}` } : {};
}

/** @throws ApiProblem */
export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return ask<T>(path, signal === undefined ? {} : { signal });
}

/** Asks once: the same wish that is sent again by a shaky connection counts once. @throws ApiProblem */
export async function post<T>(path: string, body: unknown): Promise<T> {
  return ask<T>(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': crypto.randomUUID() },
    body: JSON.stringify(body),
  });
}

async function ask<T>(path: string, options: RequestInit): Promise<T> {
  const answer = await fetch(path, { ...options, headers: { ...keyHeader(), ...(options.headers as Record<string, string>) } });
  if (answer.status === 401) await keyEnded();
  if (!answer.ok) throw await problemOf(answer);
  return (await answer.json()) as T;
}

/** A connection that streams. The caller reads it. */
export function open(path: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
  return fetch(path, { headers: { accept: 'text/event-stream', ...keyHeader(), ...headers }, signal, cache: 'no-store' });
}

export interface Loaded<T> {
  data: T | null;
  error: Error | null;
  /** Ask anew; calls that come close together ask once. */
  reload: () => void;
}

const TOGETHER_MS = 150;

/** What a path answers; null asks nothing. What is there stays while it is asked anew. */
export function useGet<T>(path: string | null): Loaded<T> {
  const [state, setState] = useState<{ path: string | null; data: T | null; error: Error | null }>({
    path,
    data: null,
    error: null,
  });
  const [round, setRound] = useState(0);
  const timer = useRef<number | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new round asks again
  useEffect(() => {
    if (path === null) return;
    const abort = new AbortController();
    get<T>(path, abort.signal).then(
      (data) => setState({ path, data, error: null }),
      (error: Error) => {
        if (!abort.signal.aborted) setState((now) => ({ path, data: now.path === path ? now.data : null, error }));
      },
    );
    return () => abort.abort();
  }, [path, round]);
  const reload = useCallback(() => {
    timer.current ??= window.setTimeout(() => {
      timer.current = null;
      setRound((now) => now + 1);
    }, TOGETHER_MS);
  }, []);
  const own = state.path === path;
  return { data: own ? state.data : null, error: own ? state.error : null, reload };
}
