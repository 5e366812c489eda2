// Small pieces that every page has.
import { type ReactNode, useEffect, useId, useRef, useState } from 'react';
import type { State } from '../types.ts';

export function StateChip({ state, children }: { state: State | string; children?: ReactNode }) {
  return (
    <span className="chip" data-state={state}>
      {children ?? state}
    </span>
  );
}

/** What there is to say where there is nothing to show. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <p className="empty-title">{title}</p>
      {children === undefined ? null : <p>{children}</p>}
    </div>
  );
}

export function Problem({ error, retry }: { error: Error; retry?: () => void }) {
  return (
    <div className="problem" role="alert">
      <p>{error.message}</p>
      {retry === undefined ? null : (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <p className="loading" role="status">
      Loading {what}…
    </p>
  );
}

export function Copy({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2_000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
    } catch {
      // Without the right to the clipboard the text is there to be selected.
    }
  };
  return (
    <button type="button" className="small" onClick={() => void copy()}>
      {copied ? 'Copied' : label}
    </button>
  );
}

/** Does at once what its label says, and tells what went wrong. */
export function Act({
  label,
  name,
  disabled = false,
  onAct,
}: {
  label: string;
  /** Where the label alone does not say what is meant. */
  name?: string;
  disabled?: boolean;
  onAct: () => Promise<void>;
}) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const act = async () => {
    setBusy(true);
    setError(null);
    await onAct().catch((problem: Error) => setError(problem));
    setBusy(false);
  };
  return (
    <>
      <button type="button" className="small" aria-label={name} disabled={busy || disabled} onClick={() => void act()}>
        {label}
      </button>
      {error === null ? null : <Problem error={error} />}
    </>
  );
}

/** Asks before it does something that cannot be taken back. */
export function Confirm({
  label,
  question,
  yes,
  danger = false,
  onYes,
  children,
}: {
  label: string;
  question: string;
  yes: string;
  danger?: boolean;
  onYes: () => Promise<void>;
  children?: ReactNode;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const title = useId();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const act = async () => {
    setBusy(true);
    setError(null);
    try {
      await onYes();
      dialog.current?.close();
    } catch (problem) {
      setError(problem as Error);
    }
    setBusy(false);
  };
  return (
    <>
      <button
        type="button"
        className={danger ? 'small danger' : 'small'}
        onClick={() => {
          setError(null);
          dialog.current?.showModal();
        }}
      >
        {label}
      </button>
      <dialog ref={dialog} aria-labelledby={title}>
        <h2 id={title}>{question}</h2>
        {children}
        {error === null ? null : <Problem error={error} />}
        <div className="row end">
          <button type="button" onClick={() => dialog.current?.close()}>
            Back
          </button>
          <button type="button" className={danger ? 'primary danger' : 'primary'} disabled={busy} onClick={() => void act()}>
            {yes}
          </button>
        </div>
      </dialog>
    </>
  );
}
