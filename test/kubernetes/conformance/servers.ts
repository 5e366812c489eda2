/** What the suites on dev servers do again and again: make one that runs, and end it. */
import type { ServerSpec } from '../../../actors/reservation/ports.ts';
import { until } from '../../integration/providers/support/wait.ts';
import type { Subject } from './subject.ts';

export function serversOf(subject: () => Subject) {
  const core = () => subject().client.core;
  const servers = () => subject().servers(subject().client);
  const namespace = () => subject().client.namespace;

  return {
    core,
    servers,
    namespace,

    /** Create a server and wait until its pod is ready. */
    async running(spec: ServerSpec) {
      const made = await servers().create(spec);
      await until('the pod is ready', async () => {
        const pod = await core().readNamespacedPod({ namespace: namespace(), name: made.name });
        return pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True');
      });
      return made;
    },

    /** Remove a server by force and wait until its pod is proven gone. */
    async gone(spec: ServerSpec): Promise<void> {
      await until('the server is gone', async () => (await servers().remove(spec, { force: true })) === 'gone');
    },
  };
}
