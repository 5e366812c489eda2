import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TerminalError } from '../../../actors/errors.ts';
import { UserEvent } from '../../../machines/reservation.events.ts';
import { GithubKeys } from '../../../src/providers/local/github-keys.ts';
import { LocalKeys } from '../../../src/providers/local/keys.ts';
import { publicKeys } from '../../../src/providers/local/keys-format.ts';
import { KEY } from './support/specs.ts';

/** A line whose base64 begins as a key of that type does. */
function line(type: string): string {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(type.length);
  return `${type} ${Buffer.concat([length, Buffer.from(type), Buffer.alloc(20, 7)]).toString('base64')} me@here`;
}

test('names that the doors take are those that are asked for at GitHub: of managed users too', async () => {
  const keys = new GithubKeys({ baseUrl: 'http://127.0.0.1:9', timeoutMs: 200 });
  const accepted = (githubUsername: string) => UserEvent.safeParse({ type: 'add_user', by: null, githubUsername }).success;
  const refusal = (name: string) => keys.keysOf(name).catch((error: unknown) => error);
  for (const name of ['octo', 'octo-cat', 'a', 'octo_corp', 'octo-cat_corp1', 'x'.repeat(39)]) {
    expect(accepted(name), name).toBe(true);
    expect(await refusal(name), name).not.toBeInstanceOf(TerminalError);
  }
  for (const name of ['', '-a', 'a-', 'a--b', '_corp', 'octo_', 'octo_a_b', 'octo_-b', 'x'.repeat(40), 'a/b', 'a_b;c']) {
    expect(accepted(name), name).toBe(false);
    expect(await refusal(name), name).toBeInstanceOf(TerminalError);
  }
});

describe('lines of public keys', () => {
  test.each([
    'ssh-rsa',
    'ssh-ed25519',
    'ecdsa-sha2-nistp256',
    'ecdsa-sha2-nistp384',
    'ecdsa-sha2-nistp521',
    'sk-ssh-ed25519@openssh.com',
    'sk-ecdsa-sha2-nistp256@openssh.com',
  ])('N14: of type %s are kept', (type) => {
    expect(publicKeys(line(type))).toEqual([line(type)]);
  });

  test('that are none, are cut, bear options or are certificates are dropped; duplicates are one', () => {
    const text = [
      KEY,
      KEY,
      '',
      '# note',
      'ssh-ecdsa AAAA',
      'ssh-rsa AAAA',
      KEY.replace('ssh-ed25519', 'ssh-rsa'),
      `command="rm" ${KEY}`,
      line('ssh-ed25519-cert-v01@openssh.com'),
      line('ssh-dss'),
    ];
    expect(publicKeys(text.join('\r\n'))).toEqual([KEY]);
  });
});

describe('local keys', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gpu-dev-keys-'));
  });
  afterEach(() => rm(folder, { recursive: true }));
  const keys = (note?: (text: string) => void) =>
    new LocalKeys({ home: folder, sshFolder: join(folder, 'ssh'), ...(note ? { note } : {}) });

  test('come from the settings file by user, or for anybody', async () => {
    await writeFile(join(folder, 'keys.json'), JSON.stringify({ ada: [KEY], '*': [line('ssh-rsa')] }));
    expect(await keys().keysOf('ada')).toEqual([KEY]);
    expect(await keys().keysOf('bob')).toEqual([line('ssh-rsa')]);
  });

  test('that are nowhere are an empty list with one note', async () => {
    const notes: string[] = [];
    const source = keys((text) => notes.push(text));
    expect(await source.keysOf('ada')).toEqual([]);
    expect(await source.keysOf('bob')).toEqual([]);
    expect(notes).toHaveLength(1);
    expect(notes[0]).toContain('keys.json');
  });

  test('in a file that cannot be understood are an error that names it', async () => {
    await writeFile(join(folder, 'keys.json'), '[1]');
    await expect(keys().keysOf('ada')).rejects.toThrow(/keys\.json/);
  });
});

describe('keys from GitHub', () => {
  let server: Server;
  let asked: string[];
  let answer: { status: number; body: string } | 'silence';
  let now: number;
  let source: GithubKeys;
  beforeEach(async () => {
    asked = [];
    now = 0;
    answer = { status: 200, body: `${KEY}\n` };
    server = createServer((request, response) => {
      asked.push(request.url ?? '');
      if (answer !== 'silence') response.writeHead(answer.status).end(answer.body);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    source = new GithubKeys({ baseUrl, timeoutMs: 200, freshMs: 1000, staleMs: 10_000, now: () => now });
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  test('are asked for once while they are fresh, however many ask', async () => {
    expect(await Promise.all([source.keysOf('Ada'), source.keysOf('ada')])).toEqual([[KEY], [KEY]]);
    await source.keysOf('ada');
    expect(asked).toEqual(['/ada.keys']);
    now = 2000;
    await source.keysOf('ada');
    expect(asked).toHaveLength(2);
  });

  test('may be old ones while GitHub is away, but not for ever', async () => {
    await source.keysOf('ada');
    now = 5000;
    answer = { status: 503, body: '' };
    expect(await source.keysOf('ada')).toEqual([KEY]);
    answer = 'silence';
    expect(await source.keysOf('ada')).toEqual([KEY]);
    now = 20_000;
    await expect(source.keysOf('ada')).rejects.not.toThrow(TerminalError);
  });

  test.each(['../etc', 'a b', '-ada', 'ada--x', 'a'.repeat(40), 'ada.keys?', ''])(
    'T9: of "%s" are never asked for',
    async (name) => {
      await expect(source.keysOf(name)).rejects.toThrow(TerminalError);
      expect(asked).toEqual([]);
    },
  );

  test('of nobody, and none at all, are terminal errors in words for the user', async () => {
    answer = { status: 404, body: 'Not Found' };
    await expect(source.keysOf('ada')).rejects.toThrow('GitHub has no user ada');
    answer = { status: 200, body: '\n' };
    await expect(source.keysOf('ada')).rejects.toThrow(/no public SSH keys/);
  });
});
