import { mkdirSync, readFileSync, statSync, writeFileSync, chownSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Secret } from '../../actors/secret.ts';
import { serverSpec } from '../integration/providers/support/specs.ts';
import { until } from '../integration/providers/support/wait.ts';
import { makeScratch, removeScratch } from '../support/scratch.ts';
import { findPlatform, Machine, makeKey } from './support/machine.ts';
import { notTested } from '../support/not-tested.ts';

const platform = await findPlatform();
if ('missing' in platform) notTested('test/login/login.test.ts', platform.missing);

/** All that a shell might take for more than text. */
const NASTY = `it's "quoted" $HOME \${HOME} $(touch /workspace/ran) \`touch /workspace/ran\` \\ & ; | #\ntwo lines\n!! *`;

describe.skipIf('missing' in platform)('somebody logs in', () => {
  const keys = makeScratch('keys');
  const ada = {
    rsa: makeKey(keys, 'rsa', 'rsa', '-b', '2048'),
    ecdsa: makeKey(keys, 'ecdsa', 'ecdsa'),
    ed25519: makeKey(keys, 'ed25519', 'ed25519'),
  };
  const bob = makeKey(keys, 'bob', 'ed25519');
  const eve = makeKey(keys, 'eve', 'ed25519');
  const adaLines = Object.values(ada).map(({ line }) => line);
  let server: Machine;

  beforeAll(async () => {
    if ('missing' in platform) return;
    const spec = serverSpec({
      authorizedKeys: adaLines,
      environment: new Secret({ NASTY, HF_HOME: '/workspace/hf', UID: '7', 'odd.name': 'x' }),
      command: 'echo "started as $(id -un) with $HF_HOME"; echo "$NASTY" > /workspace/from-command',
    });
    server = new Machine(platform, { spec });
    // A file of somebody else on the disk, to see whether it stays so.
    mkdirSync(server.path('home', 'deep'));
    writeFileSync(server.path('home', 'deep', 'file'), '');
    chownSync(server.path('home', 'deep', 'file'), 4711, 4711);
    await server.start();
  });
  afterAll(async () => {
    await server?.stop();
    await removeScratch(keys);
  });
  const sh = (command: string, key = ada.ed25519.file) => server.ssh(key, [command]);

  it.for(Object.entries(ada))('N14: with a key of type %s, and runs a command', async ([, { file }]) => {
    const { code, stdout, stderr } = await sh('id -un; pwd; exit 3', file);
    expect([code, stdout, stderr]).toEqual([3, 'dev\n/home/dev\n', '']);
  });

  it('T10: a variable with quotes, lines and substitutions arrives as it is, and runs nothing', async () => {
    expect((await sh('printf %s "$NASTY"')).stdout).toBe(NASTY);
    expect((await sh(`bash -lc 'printf %s "$NASTY"'`)).stdout).toBe(NASTY);
    const login = await server.ssh(ada.rsa.file, [], {
      input: 'printf "<%s>" "$NASTY"; echo "$0 $PATH"; exit\n',
      options: ['-T'],
    });
    expect(login.stdout).toContain(`<${NASTY}>`);
    expect((await sh('ls /workspace')).stdout.split('\n')).not.toContain('ran');
  });

  it('sees the variables of the image and of the server, those of its own, and its own shell', async () => {
    const { stdout } = await sh('echo "$HF_HOME $GPU_TYPE $OMP_NUM_THREADS $SHELL $HOME"; echo "$PATH"');
    expect(stdout).toMatch(/^\/workspace\/hf h100 36 \/bin\/bash \/home\/dev\n\/opt\/of-the-image\/bin:/);
    expect((await sh(`bash -lc 'echo "$PATH"'`)).stdout).toMatch(/^\/opt\/of-the-image\/bin:/);
  });

  it('N7: gets nothing but what the command says, and can copy files', async () => {
    await server.inside(['/bin/sh', '/etc/gpu-dev/scripts/notice.sh', '/home/dev/WARN_EXPIRES_IN_30MIN.txt', 'soon']);
    expect(await sh('true')).toEqual({ code: 0, stdout: '', stderr: '' });
    expect((await sh('bash -lc true')).stdout).toBe('');
    writeFileSync(server.path('here'), 'content');
    expect((await server.sftp(ada.ecdsa.file, `put ${server.path('here')} /workspace/there\n`)).code).toBe(0);
    expect(readFileSync(server.path('workspace', 'there'), 'utf8')).toBe('content');
    await server.inside(['rm', '/home/dev/WARN_EXPIRES_IN_30MIN.txt']);
  });

  it('and may become root, while nobody gets in as root, by password, or with a key that is not listed', async () => {
    expect((await sh('sudo -n id -u')).stdout).toBe('0\n');
    expect((await sh('true', eve.file)).code).toBe(255);
    const asRoot = await server.ssh(ada.rsa.file, ['true'], { options: ['-l', 'root'] });
    expect(asRoot.code).toBe(255);
    const { stderr } = await server.ssh(eve.file, ['true'], { options: ['-v', '-o', 'LogLevel=VERBOSE'] });
    expect(stderr).toMatch(/Permission denied \(publickey\)/);
  });

  it('T12: has no more rights than its pod gives, even as root', async () => {
    const { stdout } = await sh(
      'grep CapBnd /proc/self/status; sudo -n grep CapEff /proc/self/status; sudo -n mknod /tmp/x c 1 3',
    );
    // SYS_ADMIN (21), NET_ADMIN (12), NET_RAW (13), MKNOD (27), SYS_PTRACE (19) and SYS_MODULE (16) are none of them.
    const sets = [...stdout.matchAll(/Cap(?:Bnd|Eff):\s*([0-9a-f]+)/g)].map(([, hex]) => BigInt(`0x${hex}`));
    expect(sets).toHaveLength(2);
    for (const set of sets) for (const bit of [12n, 13n, 16n, 19n, 21n, 27n]) expect((set >> bit) & 1n).toBe(0n);
  });

  it('D22 D23: the disk is not walked: what belongs to another stays so, and the home itself is theirs', () => {
    expect(statSync(server.path('home', 'deep', 'file')).uid).toBe(4711);
    const { uid, mode } = statSync(server.path('home'));
    expect([uid, mode & 0o777]).toEqual([1081, 0o755]);
  });

  it('finds that the command was run once, as dev, with its words in a file', async () => {
    const output = await until('the command ended', () => {
      const text = readFileSync(server.path('home', 'startup-output.log'), 'utf8');
      return text.includes('started') ? text : null;
    });
    expect(output).toBe('started as dev with /workspace/hf\n');
    expect(readFileSync(server.path('workspace', 'from-command'), 'utf8')).toBe(`${NASTY}\n`);
  });

  it('N15: an added user gets in, a removed one does not, and after restarts it is still so', async () => {
    expect((await sh('true', bob.file)).code).toBe(255);
    server.setKeys([...adaLines, bob.line]);
    expect((await sh('true', bob.file)).code).toBe(0);
    await server.end('SIGKILL');
    await server.start();
    expect((await sh('true', bob.file)).code).toBe(0);
    server.setKeys(adaLines);
    expect((await sh('true', bob.file)).code).toBe(255);
    await server.end('SIGKILL');
    await server.start();
    expect((await sh('true', bob.file)).code).toBe(255);
    // The host is the one they know: ssh would refuse another.
    expect((await sh('true')).code).toBe(0);
    const ran = readFileSync(server.path('home', 'startup-output.log'), 'utf8');
    expect(ran.match(/started/g)).toHaveLength(1);
  });

  it('sees a warning, the last notice and a lack of memory at the prompt, each once', async () => {
    const post = (file: string, text: string) =>
      server.inside(['/bin/sh', '/etc/gpu-dev/scripts/notice.sh', `/home/dev/${file}`, text]);
    await post('WARN_EXPIRES_IN_15MIN.txt', 'This server ends in 15 minutes, $(date) `id`');
    // A terminal: the first prompt, a notice that comes while it is open, and the second prompt.
    const wait =
      'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -f EXPIRED_NOTICE.txt ] && break; sleep 0.2; done';
    const open = server.ssh(ada.rsa.file, [], { input: `${wait}\n:\nexit\n`, options: ['-tt'] });
    await until('the terminal waits', async () => (await server.inside(['pgrep', '-u', '1081', 'sleep'])).code === 0);
    await post('EXPIRED_NOTICE.txt', 'The reserved time is over');
    const { stdout } = await open;
    expect(stdout.split('This server ends in 15 minutes, $(date) `id`')).toHaveLength(2);
    expect(stdout.split('The reserved time is over')).toHaveLength(2);
    await server.inside(['rm', '/home/dev/WARN_EXPIRES_IN_15MIN.txt', '/home/dev/EXPIRED_NOTICE.txt']);
    writeFileSync(server.path('cgroup', 'memory.events'), 'low 0\noom 1\noom_kill 1\noom_group_kill 0\n');
    const told = await until('the lack of memory is told', async () => {
      const text = (await sh('cat OOM_DETECTED.txt')).stdout;
      return text === '' ? null : text;
    });
    expect(told).toMatch(/^This server ran out of memory at .* UTC: 1 of its processes killed\.\n$/);
    const later = await server.ssh(ada.rsa.file, [], { input: 'exit\n', options: ['-tt'] });
    expect(later.stdout).toContain('ran out of memory');
  });

  it('and at the end of the server, whoever works there is told to stop before it goes', async () => {
    const work = `trap 'echo saved > /workspace/saved; exit' TERM; echo up > /workspace/up; while :; do sleep 0.1; done`;
    const busy = sh(`nohup sh -c "${work}" >/dev/null 2>&1 & sleep 60`);
    await until('somebody works', async () => (await server.inside(['cat', '/workspace/up'])).code === 0);
    expect(await server.end('SIGTERM')).toBe(0);
    expect(readFileSync(server.path('workspace', 'saved'), 'utf8')).toBe('saved\n');
    await busy;
  });
});
