import { readFileSync, existsSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { Secret } from '../../actors/secret.ts';
import { serverSpec } from '../integration/providers/support/specs.ts';
import { makeScratch, removeScratch } from '../support/scratch.ts';
import { findPlatform, Machine, type MachineOptions, makeKey } from './support/machine.ts';
import { notTested } from '../support/not-tested.ts';

const platform = await findPlatform();
if ('missing' in platform) notTested('test/login/images.test.ts', platform.missing);

const TEXT = `it's "q" $HOME \`id\` $(id) \\ \ttab\nand 'more'`;

describe.skipIf('missing' in platform)('a dev server from an image', () => {
  const keys = makeScratch('keys');
  const key = makeKey(keys, 'key', 'ed25519');
  const spec = serverSpec({ authorizedKeys: [key.line], environment: new Secret({ TEXT, SHELLOPTS: 'braceexpand' }) });
  afterAll(() => removeScratch(keys));

  async function withServer(options: Omit<MachineOptions, 'spec'>, work: (server: Machine) => Promise<void>) {
    if ('missing' in platform) return;
    const server = new Machine(platform, { spec, ...options });
    try {
      await work(server);
    } finally {
      await server.stop();
    }
  }

  it.for([
    ['dash', '/bin/bash', ['/bin/sh=dash']],
    ['bash', '/bin/bash', ['/bin/sh=bash']],
    ['busybox, without bash', '/bin/sh', ['/bin/sh=/bin/busybox', '/bin/bash', '/usr/bin/bash']],
  ] as const)('whose sh is %s: people log in, with their variables as they are', ([, shell, image]) =>
    withServer({ image: [...image] }, async (server) => {
      await server.start();
      expect((await server.ssh(key.file, ['printf %s "$TEXT"'])).stdout).toBe(TEXT);
      const login = await server.ssh(key.file, [], { input: 'printf "<%s> %s" "$TEXT" "$SHELL"; exit\n', options: ['-T'] });
      expect(login.stdout).toContain(`<${TEXT}> ${shell}`);
    }),
  );

  it('B6: without sudo works all the same, and says so', () =>
    withServer({ image: ['/usr/bin/sudo', '/usr/bin/apt-get'] }, async (server) => {
      await server.start();
      expect((await server.ssh(key.file, ['id -un'])).stdout).toBe('dev\n');
      expect(server.log).toContain('no sudo in this image');
    }));

  it('without sshd, and no way to install it, ends with a reason that its people can read', () =>
    withServer({ image: ['/usr/sbin/sshd', '/usr/bin/apt-get'] }, async (server) => {
      expect(await server.run()).toBe(1);
      expect(server.log.trim().split('\n').at(-1)).toBe(
        '[gpu-dev] cannot start: this image has no sshd, and none could be installed',
      );
    }));

  it('B10: has everything staged when its port answers for the first time', () =>
    withServer({ image: [] }, async (server) => {
      await server.start();
      // Not by a login, which would come later: by the files, the moment after the first connection.
      expect(readFileSync(server.path('access', 'authorized_keys'), 'utf8')).toContain(key.line);
      const { stdout } = await server.inside(['ls', '/etc/gpu-dev', '/etc/profile.d/gpu-dev.sh']);
      expect(stdout.split('\n')).toEqual(expect.arrayContaining(['environment.sh', 'shell', '/etc/profile.d/gpu-dev.sh']));
      expect(existsSync(server.path('state', 'ssh', 'ssh_host_ed25519_key'))).toBe(true);
    }));
});
