// Kubeconfig files: JSON is YAML too.
import { writeFileSync } from 'node:fs';
import type { Access } from './api.ts';

/** Write a kubeconfig by which clients and kubectl find the server. */
export function writeKubeconfig(file: string, { server, caFile, token }: Access, namespace = 'default'): void {
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster: { server, 'certificate-authority': caFile } }],
    users: [{ name: 'test', user: { token } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test', namespace } }],
    'current-context': 'test',
  };
  writeFileSync(file, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
}
