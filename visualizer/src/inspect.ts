// The bridge to Stately's inspector: it is shown in a frame, and given what one reservation did and does, once it says that it listens.
import './styles/base.css';
import './styles/inspect.css';
import { listen } from './events.ts';
import { session, start } from './session.ts';

/** More than these are not kept for an inspector that does not listen. */
const MOST_KEPT = 20_000;

async function main(): Promise<void> {
  const said = document.getElementById('said')!;
  const reservation = new URLSearchParams(location.search).get('reservation') ?? '';
  (document.getElementById('back') as HTMLAnchorElement).href = `/ui#/reservation/${encodeURIComponent(reservation)}`;
  await start();
  if (session.get().state !== 'in') {
    said.textContent = 'Sign in on the page first, and come back.';
    return;
  }
  // The service says where the inspector is: by the policy of this very page, which allows no other frame.
  const { headers } = await fetch(location.href, { method: 'GET' });
  const url = headers.get('x-inspector') ?? '';
  const { origin } = new URL(url);
  const frame = document.createElement('iframe');
  frame.title = 'Inspector';
  frame.src = url;
  const kept: unknown[] = [];
  let listening = false;
  addEventListener('message', (message) => {
    if (message.source !== frame.contentWindow || (message.data as { type?: string } | null)?.type !== '@statelyai.connected')
      return;
    listening = true;
    for (const event of kept.splice(0)) frame.contentWindow?.postMessage(event, origin);
  });
  document.getElementById('frame')!.append(frame);
  listen(`/v1/reservations/${encodeURIComponent(reservation)}/inspect`, {
    onEvent: ({ data }) => {
      if (listening) frame.contentWindow?.postMessage(data, origin);
      else if (kept.length < MOST_KEPT) kept.push(data);
    },
    onState: (connected) => {
      said.textContent = connected ? 'Connected.' : 'Reconnecting…';
    },
    onOver: (error) => {
      said.textContent = error === null ? 'It has ended.' : error.message;
    },
  });
}

void main();
