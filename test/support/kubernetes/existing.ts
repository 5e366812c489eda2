// A cluster that exists already, named by a kubeconfig.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { makeScratch } from '../scratch.ts';
import type { Access } from './api.ts';

/**
 * GPU_DEV_TEST_KUBECONFIG names a cluster to test against instead of one of our own. Its user must have a bearer token and be allowed
 * everything; tests that need stand-ins are skipped there.
 */
export function existingCluster(): Access | null {
  const file = process.env.GPU_DEV_TEST_KUBECONFIG;
  if (!file) return null;
  const config = new KubeConfig();
  config.loadFromFile(file);
  const cluster = config.getCurrentCluster();
  const token = config.getCurrentUser()?.token;
  if (!cluster || !token) throw new Error(`GPU_DEV_TEST_KUBECONFIG (${file}) has no current cluster, or its user has no token`);
  if (cluster.caFile) return { server: cluster.server, caFile: cluster.caFile, token };
  const caFile = join(makeScratch('authority'), 'ca.crt');
  writeFileSync(
    caFile,
    cluster.caData ? Buffer.from(cluster.caData, 'base64') : readFileSync('/etc/ssl/certs/ca-certificates.crt'),
  );
  return { server: cluster.server, caFile, token };
}
