/** DevServers: what happens inside of them. */
import { describe, expect, it } from 'vitest';
import { TerminalError } from '../../../actors/errors.ts';
import { Secret } from '../../../actors/secret.ts';
import { accessSecretName, sshServiceName } from '../../../src/providers/kubernetes/objects.ts';
import { runInside } from '../../../src/providers/kubernetes/exec.ts';
import { KEY, serverSpec } from '../../integration/providers/support/specs.ts';
import { until } from '../../integration/providers/support/wait.ts';
import { serversOf } from './servers.ts';
import type { Subject } from './subject.ts';

export function insideConforms(subject: () => Subject): void {
  const { core, servers, namespace, running, gone } = serversOf(subject);

  describe('inside a server', () => {
    const KEY_B = KEY.replace('someone', 'another');

    it('the keys become exactly those that are set', async () => {
      const spec = serverSpec();
      const { name } = await running(spec);
      await servers().setKeys(spec, [KEY, KEY_B]);
      await servers().setKeys(spec, [KEY_B]);
      const { stdout } = await until('the mounted keys follow', async () => {
        const read = await runInside(subject().client, name, ['cat', '/etc/gpu-dev/access/authorized_keys']);
        return read.stdout === `${KEY_B}\n` ? read : null;
      });
      expect(stdout).toBe(`${KEY_B}\n`);
      const secret = await core().readNamespacedSecret({ namespace: namespace(), name: accessSecretName(spec) });
      expect(Object.keys(secret.data ?? {}).sort()).toEqual(['authorized_keys', 'jupyter_token']);
      await gone(spec);
      await servers().removeAccess(spec);
      await expect(servers().setKeys(spec, [KEY])).rejects.toThrow(TerminalError);
    });

    it('a notice replaces those that it makes obsolete, and an extension takes them away', async () => {
      const spec = serverSpec();
      const { name } = await running(spec);
      const files = async () => {
        const { stdout } = await runInside(subject().client, name, ['ls', '/home/dev']);
        return stdout
          .split('\n')
          .filter((file) => file.endsWith('.txt'))
          .sort();
      };
      const post = (about: 'warning' | 'final' | 'extended' | 'oom', minutesLeft = 0) =>
        servers().post(spec, { about, minutesLeft, endsAt: null, text: `about ${about} $HOME 'quoted'` });
      await post('warning', 30);
      expect(await files()).toEqual(['WARN_EXPIRES_IN_30MIN.txt']);
      await post('oom');
      await post('warning', 15);
      expect(await files()).toEqual(['OOM_DETECTED.txt', 'WARN_EXPIRES_IN_15MIN.txt']);
      await post('final');
      await post('final');
      expect(await files()).toEqual(['EXPIRED_NOTICE.txt', 'OOM_DETECTED.txt']);
      const { stdout } = await runInside(subject().client, name, ['cat', '/home/dev/EXPIRED_NOTICE.txt']);
      expect(stdout).toBe("about final $HOME 'quoted'\n");
      await post('extended');
      expect(await files()).toEqual(['OOM_DETECTED.txt']);
      await gone(spec);
      await expect(post('oom')).rejects.toThrow(TerminalError);
    });

    it('that does not run yet may be tried again', async () => {
      const spec = serverSpec({ gpuType: 'h200' });
      await servers().create(spec);
      const error: unknown = await servers()
        .post(spec, { about: 'oom', minutesLeft: 0, endsAt: null, text: 'x' })
        .catch((it) => it);
      expect(error).toBeInstanceOf(Error);
      expect(error).not.toBeInstanceOf(TerminalError);
      await gone(spec);
    });

    it('Jupyter starts with a URL that bears no token, twice is once, and stops', async () => {
      const spec = serverSpec();
      await running(spec);
      const token = new Secret('very-secret-token');
      const first = await servers().startJupyter(spec, token);
      expect(await servers().startJupyter(spec, token)).toEqual(first);
      expect(first.url).toBe(`http://10.0.0.2:${first.port}/`.replace('10.0.0.2', new URL(first.url).hostname));
      expect(first.url).not.toContain('secret');
      await servers().stopJupyter(spec);
      await servers().stopJupyter(spec);
      const labelSelector = `gpu-dev.io/reservation=${spec.reservationId}`;
      const services = await core().listNamespacedService({ namespace: namespace(), labelSelector });
      expect(services.items.map(({ metadata }) => metadata?.name)).toEqual([sshServiceName(spec)]);
      await gone(spec);
      await servers().stopJupyter(spec);
    });
  });
}
