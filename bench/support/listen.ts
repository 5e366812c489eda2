/**
 * Those who listen, as a process of their own: they are many machines in truth, and what they hear must not hold up the clock of who asks. Told
 * by its parent what to open, and answers when each of some reservations was first heard of by each stream.
 */
import http from 'node:http';
import type { Ask, Heard } from './listeners.ts';

const ID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const ID_LENGTH = 36;
/** How often is looked whether all was heard, in milliseconds. */
const LOOK_MS = 50;

/** One stream of all that a user has, and when it first told of each reservation: milliseconds since 1970. */
class Listener {
  readonly told = new Map<string, number>();
  /** The end of what was heard, in which an id may have begun. */
  #rest = '';

  static open(url: string, key: string): Promise<Listener> {
    return new Promise((resolve, reject) => {
      const request = http.get(`${url}/v1/stream`, { agent: false, headers: { authorization: `Bearer ${key}` } }, (response) => {
        if (response.statusCode !== 200) return reject(new Error(`a stream was answered with ${response.statusCode}`));
        const listener = new Listener();
        response.setEncoding('latin1').on('data', (text: string) => listener.#hear(text));
        response.on('error', () => {}); // it ends when the service does
        resolve(listener);
      });
      request.once('error', reject);
    });
  }

  /** Ids are looked for in the text as it comes, and nothing is parsed: who measures must not take the processor from what is measured. */
  #hear(text: string): void {
    const at = performance.timeOrigin + performance.now();
    const heard = this.#rest + text;
    for (const [id] of heard.matchAll(ID)) if (!this.told.has(id)) this.told.set(id, at);
    this.#rest = heard.slice(-ID_LENGTH);
  }
}

const listeners: Listener[] = [];

function heardOf(ids: readonly string[]): [id: string, at: number][] {
  return listeners.flatMap(({ told }) => ids.flatMap((id): [string, number][] => (told.has(id) ? [[id, told.get(id)!]] : [])));
}

process.on('message', async (ask: Ask) => {
  if (ask.open !== undefined) {
    const { url, keys } = ask.open;
    for (const key of keys) listeners.push(await Listener.open(url, key));
  }
  let times: Heard['times'] = [];
  if (ask.hear !== undefined) {
    const { ids, owed } = ask.hear;
    for (;;) {
      times = heardOf(ids);
      if (times.length >= owed) break;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }
  process.send!({ times } satisfies Heard);
});
