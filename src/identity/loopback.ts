/** Whether a request comes from this very machine, as far as that can be known. */
import type { IncomingMessage, Server } from 'node:http';
import { BlockList, isIP } from 'node:net';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** Whether an address is one of the machine itself. */
export function isLoopback(address: string | undefined): boolean {
  if (address === undefined) return false;
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '');
  const family = isIP(plain);
  return family !== 0 && LOOPBACK.check(plain, family === 4 ? 'ipv4' : 'ipv6');
}

/** What a proxy says of those it speaks for. */
const FORWARDED = ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-real-ip', 'via'];

/**
 * Whether both ends of a connection are on this machine, with no proxy between, and the request is no page's of somewhere else: a name that
 * was made to lead here would be another than this machine's.
 * @returns null if so, else the reason
 */
export function arrivesLocally(message: IncomingMessage, server: Pick<Server, 'address'>): string | null {
  const listener = server.address();
  if (listener !== null && (typeof listener === 'string' || !isLoopback(listener.address))) {
    return 'the service listens for others too';
  }
  return comesFromHere(message);
}

/** The same, wherever else the service may listen. @returns null if so, else the reason */
export function comesFromHere({ socket, headers }: IncomingMessage): string | null {
  if (!isLoopback(socket.remoteAddress)) return 'the connection comes from another machine';
  if (FORWARDED.some((name) => headers[name] !== undefined)) return 'a proxy stands between';
  const host = (headers.host ?? '')
    .replace(/:\d+$/, '')
    .replace(/^\[|\]$/g, '')
    .toLowerCase();
  if (host !== 'localhost' && !isLoopback(host)) return 'the request is addressed to another name than localhost';
  // Our own page comes from where the request goes; all others come from elsewhere.
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'none' && site !== 'same-origin') return 'a web page of another place asks';
  if (headers.origin !== undefined && headers.origin !== `http://${headers.host}`) return 'a web page of another place asks';
  return null;
}
