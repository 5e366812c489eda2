// Ports are asked for before they are used: a server that dies of a busy port tells its reason badly, or not at all.
import { randomInt } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { commandLine } from './processes.ts';

/** True when a server could listen on this TCP port of the host at this moment. Throws for reasons other than "in use". */
export function isPortFree(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false);
      else if (error.code === 'EACCES')
        reject(new Error(`port ${port} needs more rights than this user has: take one above 1023`));
      else reject(error);
    });
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/**
 * Where free ports are looked for: below those that systems give to outgoing connections (from 32768 on Linux, 49152 elsewhere) and Kubernetes
 * to services (from 30000). Whoever calls a server of this machine again and again while it is down is given its port sooner or later, is then
 * connected with itself, and the server cannot come back.
 */
const FIRST_PORT = 20_000;
const PORTS = 10_000;
const TRIES = 200;

/** A TCP port that is free on the host now. Another process may take it before it is used: be ready to ask again. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  for (let tries = 0; tries < TRIES; tries++) {
    const port = FIRST_PORT + randomInt(PORTS);
    if (await isPortFree(port, host)) return port;
  }
  throw new Error(`no port from ${FIRST_PORT} to ${FIRST_PORT + PORTS - 1} is free`);
}

/** "node (pid 4711)" for the process that listens on a TCP port, or undefined where that cannot be found out. Never throws. */
export function whoListens(port: number): string | undefined {
  if (process.platform !== 'linux') return undefined;
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0');
  const inodes = new Set<string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    try {
      for (const line of readFileSync(table, 'latin1').split('\n').slice(1)) {
        const fields = line.trim().split(/\s+/);
        // Field 1 is the local address, field 3 the state (0A is LISTEN), field 9 the socket's inode.
        if (fields[1]?.endsWith(`:${hexPort}`) && fields[3] === '0A' && fields[9] !== undefined) inodes.add(fields[9]);
      }
    } catch {
      // A system without that table: the answer is simply not known.
    }
  }
  if (inodes.size === 0) return undefined;
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      for (const fd of readdirSync(`/proc/${entry}/fd`)) {
        const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${entry}/fd/${fd}`))?.[1];
        if (inode === undefined || !inodes.has(inode)) continue;
        // The program's name tells enough of its path.
        const command = commandLine(Number(entry)).replace(/^\S*\//, '');
        return `${command.length > 60 ? `${command.slice(0, 60)}…` : command || 'a process'} (pid ${entry})`;
      }
    } catch {
      // Gone meanwhile, or another user's.
    }
  }
  return undefined;
}
