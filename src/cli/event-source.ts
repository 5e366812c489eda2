/** Reading server-sent events, as the standard has them. */

export interface ServerEvent {
  /** Id to come back by: that of the last event that had one. Empty before the first. */
  id: string;
  event: string;
  data: string;
}

/** Longer than this no event of ours is, in characters. */
const LONGEST = 8 * 1024 * 1024;

/**
 * The events of a body, as they come, until it ends. Comments are passed over; an event with an id and no data moves on the id, and is given
 * with empty data.
 * @throws if the connection breaks, or sends something that is no stream of events
 */
export async function* readEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let rest = '';
  let id = '';
  for await (const bytes of body) {
    rest += decoder.decode(bytes, { stream: true });
    if (rest.length > LONGEST) throw new Error('The event is too long');
    const blocks = rest.replaceAll('\r\n', '\n').split('\n\n');
    rest = blocks.pop()!;
    for (const block of blocks) {
      const found = eventOf(block, id);
      if (found === null) continue;
      id = found.id;
      yield found;
    }
  }
}

function eventOf(block: string, lastId: string): ServerEvent | null {
  const event: ServerEvent = { id: lastId, event: 'message', data: '' };
  const data: string[] = [];
  let says = false;
  for (const line of block.split('\n')) {
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
    if (field === 'id') event.id = value;
    else if (field === 'event') event.event = value;
    else if (field === 'data') data.push(value);
    if (field === 'id' || field === 'data') says = true;
  }
  event.data = data.join('\n');
  return says ? event : null;
}
