import { type FormEvent, useState } from 'react';
import { ApiProblem, signIn } from '../session.ts';

export function SignIn({ reason }: { reason: string | null }) {
  const [key, setKey] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      await signIn(key);
    } catch (error) {
      setProblem(
        error instanceof ApiProblem && error.code === 'GPU_KEY_INVALID'
          ? 'This service knows no such key.'
          : (error as Error).message,
      );
      setBusy(false);
    }
  };
  return (
    <main className="sign-in">
      <h1>gpu-dev</h1>
      <form onSubmit={(event) => void submit(event)}>
        {reason === null ? null : <p role="status">{reason}</p>}
        <label htmlFor="key">API key</label>
        <input
          id="key"
          type="password"
          autoComplete="off"
          spellCheck={false}
          required
          value={key}
          aria-describedby="key-help"
          aria-invalid={problem !== null}
          onChange={(event) => setKey(event.target.value)}
        />
        <p id="key-help" className="quiet">
          The same key as for the API and the command line: <code>gpu-dev login</code> gets one. It stays in this tab and is
          forgotten with it.
        </p>
        {problem === null ? null : (
          <p className="problem" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" className="primary" disabled={busy}>
          Sign in
        </button>
      </form>
    </main>
  );
}
