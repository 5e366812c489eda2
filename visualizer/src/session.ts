// Who looks at the page. The key is kept for this tab alone, and forgotten with it.
import { createStore } from './ui/store.ts';

const SLOT = 'gpu-dev-key';

export interface Me {
  username: string;
  is_admin: boolean;
  scopes: string[];
  expires_at: string;
}

export type Session =
  | { state: 'starting' }
  | { state: 'out'; reason: string | null; local: boolean }
  | { state: 'in'; key: string; me: Me; local: boolean };

export const session = createStore<Session>({ state: 'starting' });

/** What the API said of a request that it did not fulfil. */
export class ApiProblem extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, detail: string) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** Sign in with the key of this tab, or, on a laptop, with a new one that needs no proof. */
export async function start(): Promise<void> {
  const kept = sessionStorage.getItem(SLOT);
  if (kept !== null && (await enter(kept, false).catch(() => false))) return;
  await enterLocally();
}

/** @throws ApiProblem if the key is not taken */
export async function signIn(key: string): Promise<void> {
  await enter(key.trim(), false);
}

export function signOut(reason: string | null = null): void {
  sessionStorage.removeItem(SLOT);
  session.set({ state: 'out', reason, local: false });
}

/** A key that ends is replaced where that needs nobody; elsewhere its holder signs in anew. */
export async function keyEnded(): Promise<void> {
  const now = session.get();
  if (now.state !== 'in') return;
  if (now.local && (await enterLocally())) return;
  signOut('Your key has ended. Sign in with a new one.');
}

async function enter(key: string, local: boolean): Promise<boolean> {
  const answer = await fetch('/v1/me', { headers: { authorization: `Bearer ${key}` } });
  if (!answer.ok) throw await problemOf(answer);
  sessionStorage.setItem(SLOT, key);
  session.set({ state: 'in', key, me: (await answer.json()) as Me, local });
  return true;
}

async function enterLocally(): Promise<boolean> {
  try {
    const answer = await fetch('/v1/auth/local-login', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    });
    if (answer.ok) return await enter(((await answer.json()) as { api_key: string }).api_key, true);
    session.set({ state: 'out', reason: null, local: false });
  } catch {
    session.set({ state: 'out', reason: 'The service does not answer. It is tried again when you sign in.', local: false });
  }
  return false;
}

export async function problemOf(answer: Response): Promise<ApiProblem> {
  const body = (await answer.json().catch(() => null)) as { code?: string; detail?: string } | null;
  return new ApiProblem(answer.status, body?.code ?? 'GPU_NOT_FOUND', body?.detail ?? `The service answered ${answer.status}.`);
}
