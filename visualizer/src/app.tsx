// The frame of all pages: who is signed in, where one is, and whether what one sees is live.
import { lazy, Suspense, useEffect, useState } from 'react';
import { connections } from './events.ts';
import { useMine } from './mine.ts';
import { BoardPage } from './pages/board.tsx';
import { SignIn } from './pages/sign-in.tsx';
import { type Me, session, signOut } from './session.ts';
import { Loading } from './ui/parts.tsx';
import { linkTo, useRoute } from './ui/route.ts';
import { useStore } from './ui/store.ts';

// The charts bring most of the code: it comes when one is looked at.
const LifecyclePage = lazy(() => import('./pages/lifecycle.tsx'));
const ReservationPage = lazy(() => import('./pages/reservation.tsx'));
const OperatorsPage = lazy(() => import('./pages/operators.tsx'));

export function App() {
  const now = useStore(session);
  if (now.state === 'starting') return <Starting />;
  if (now.state === 'out') return <SignIn reason={now.reason} />;
  return <Signed key={now.me.username} me={now.me} />;
}

/** As index.html has it. */
function Starting() {
  return (
    <>
      <header className="top">
        <span className="brand">gpu-dev</span>
      </header>
      <Loading what="the page" />
    </>
  );
}

function Signed({ me }: { me: Me }) {
  const { page, id } = useRoute();
  useMine();
  useEffect(() => {
    document.title = `${TITLES[page] ?? 'gpu-dev'} · gpu-dev`;
  }, [page]);
  return (
    <>
      <a className="skip" href="#main">
        Skip to the content
      </a>
      <header className="top">
        <a className="brand" href={linkTo('board')}>
          gpu-dev
        </a>
        <nav aria-label="Pages">
          <Tab page="board" open={page} />
          <Tab page="lifecycle" open={page} />
          {me.is_admin ? <Tab page="operators" open={page} /> : null}
        </nav>
        <Connection />
        <Theme />
        <span className="who">
          {me.username}
          {me.is_admin ? ' (admin)' : ''}
        </span>
        <button type="button" className="small" onClick={() => signOut()}>
          Sign out
        </button>
      </header>
      <main id="main" tabIndex={-1}>
        <Suspense fallback={<Loading what="the page" />}>
          <Page page={page} id={id} me={me} />
        </Suspense>
      </main>
    </>
  );
}

const TITLES: Record<string, string> = {
  board: 'Board',
  lifecycle: 'Lifecycle',
  operators: 'Operators',
  reservation: 'Reservation',
};

function Page({ page, id, me }: { page: string; id: string | null; me: Me }) {
  if (page === 'lifecycle') return <LifecyclePage machine={id ?? 'reservation'} me={me} />;
  if (page === 'reservation' && id !== null) return <ReservationPage key={id} id={id} me={me} />;
  if (page === 'operators' && me.is_admin) return <OperatorsPage />;
  return <BoardPage me={me} />;
}

function Tab({ page, open }: { page: string; open: string }) {
  return (
    <a href={linkTo(page)} aria-current={page === open ? 'page' : undefined}>
      {TITLES[page]}
    </a>
  );
}

/** Says when what one sees may be old. */
function Connection() {
  const { open, wanted } = useStore(connections);
  const live = open >= wanted;
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(!live), live ? 0 : 1_500);
    return () => clearTimeout(timer);
  }, [live]);
  return (
    <span className="connection" data-live={!late} role="status">
      {late ? 'Reconnecting…' : 'Live'}
    </span>
  );
}

const THEMES = ['auto', 'light', 'dark'] as const;

function Theme() {
  const [theme, setTheme] = useState<string>(() => localStorage.getItem('gpu-dev-theme') ?? 'auto');
  useEffect(() => {
    document.documentElement.dataset['theme'] = theme;
    localStorage.setItem('gpu-dev-theme', theme);
  }, [theme]);
  return (
    <label className="theme">
      <span className="hidden">Colours</span>
      <select value={theme} onChange={(event) => setTheme(event.target.value)}>
        {THEMES.map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </label>
  );
}
