// Server-sent events over fetch, since the browser's own reader sends no key. A lost connection comes back where it was.
import { open } from './api.ts';
import { keyEnded, problemOf } from './session.ts';
import { createStore } from './ui/store.ts';

export interface ServerEvent {
  id: string | null;
  name: string;
  data: unknown;
}

export interface Listening {
  onEvent: (event: ServerEvent) => void;
  /** True while connected. */
  onState?: (connected: boolean) => void;
  /** Told when the stream is over for good. */
  onOver?: (error: Error | null) => void;
}

const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 5_000;
/** The service shows every 15 s that a connection lives; after a sleep nothing comes any more, and nobody says so. */
const SILENT_MS = 40_000;

/** How many streams of this page are connected, and how many should be. */
export const connections = createStore({ open: 0, wanted: 0 });

/** Listen until the returned function is called. */
export function listen(path: string, { onEvent, onState, onOver }: Listening): () => void {
  let lastId: string | null = null;
  let pause = FIRST_PAUSE_MS;
  let stopped = false;
  let connected = false;
  let abort = new AbortController();
  let heard = Date.now();
  let wakeUp: () => void = () => {};

  // What is over is missed no more.
  let counted = true;
  const uncount = () => {
    if (!counted) return;
    counted = false;
    connections.set(({ open: count, wanted }) => ({ open: count, wanted: wanted - 1 }));
  };
  const tell = (now: boolean) => {
    if (now === connected) return;
    connected = now;
    connections.set(({ open: count, wanted }) => ({ open: count + (now ? 1 : -1), wanted }));
    onState?.(now);
  };
  const read = async (): Promise<'again' | 'over'> => {
    abort = new AbortController();
    const answer = await open(path, lastId === null ? {} : { 'last-event-id': lastId }, abort.signal);
    if (answer.status === 204) return 'over';
    if (answer.status === 401) {
      await keyEnded();
      return 'again';
    }
    if (!answer.ok) {
      const problem = await problemOf(answer);
      // What is refused now is refused again; what is busy may be free later.
      if (answer.status < 500 && answer.status !== 429) throw problem;
      return 'again';
    }
    tell(true);
    pause = FIRST_PAUSE_MS;
    heard = Date.now();
    for await (const event of eventsOf(answer.body!, () => {
      heard = Date.now();
    })) {
      if (event.id !== null) lastId = event.id;
      if (event.name !== '') onEvent(event);
    }
    return 'again';
  };
  const run = async (): Promise<void> => {
    while (!stopped) {
      let next: 'again' | 'over';
      try {
        next = await read();
      } catch (error) {
        if (!stopped && (error as { status?: number }).status !== undefined) {
          tell(false);
          uncount();
          onOver?.(error as Error);
          return;
        }
        next = 'again';
      }
      tell(false);
      if (stopped) return;
      if (next === 'over') {
        uncount();
        return onOver?.(null);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pause * (0.7 + Math.random() * 0.6));
        wakeUp = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
  };
  const look = () => {
    if (connected && Date.now() - heard > SILENT_MS) abort.abort();
    if (!connected) wakeUp();
  };
  const timer = setInterval(() => {
    if (connected && Date.now() - heard > SILENT_MS) abort.abort();
  }, 5_000);
  addEventListener('online', look);
  document.addEventListener('visibilitychange', look);
  connections.set(({ open: count, wanted }) => ({ open: count, wanted: wanted + 1 }));
  void run();
  return () => {
    stopped = true;
    clearInterval(timer);
    removeEventListener('online', look);
    document.removeEventListener('visibilitychange', look);
    tell(false);
    uncount();
    abort.abort();
    wakeUp();
  };
}

async function* eventsOf(body: ReadableStream<Uint8Array>, onBytes: () => void): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let waiting: string[] = [];
  let fields: { id: string | null; name: string; data: string | null } = { id: null, name: '', data: null };
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onBytes();
    const text = decoder.decode(value, { stream: true });
    const lines = text.split('\n');
    // Pieces of one long line are put together once, when its end is there.
    waiting.push(lines[0]!);
    for (let index = 1; index < lines.length; index++) {
      const line = waiting.join('');
      waiting = [lines[index]!];
      if (line === '') {
        if (fields.data !== null || fields.id !== null) {
          yield { id: fields.id, name: fields.name, data: fields.data === null ? null : JSON.parse(fields.data) };
        }
        fields = { id: null, name: '', data: null };
        continue;
      }
      const colon = line.indexOf(':');
      const name = colon < 0 ? line : line.slice(0, colon);
      const content = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (name === 'id') fields.id = content;
      else if (name === 'event') fields.name = content;
      else if (name === 'data') fields.data = fields.data === null ? content : `${fields.data}\n${content}`;
    }
  }
}
