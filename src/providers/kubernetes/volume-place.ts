/** Where a PersistentVolume can be used, as its node affinity says: pure, but for reading the two objects. */
import type { V1NodeSelectorTerm, V1PersistentVolume } from '@kubernetes/client-node';
import { NODE_NAME, type VolumePlace } from '../../../machines/disk.events.ts';
import type { KubernetesClient } from './client.ts';
import { attempt, attemptOrNull, hasStatus } from './errors.ts';

/**
 * The place of a volume that stays where it is. Of its affinity only lists of values are understood (`In`, which is what storage writes): any
 * other condition restricts nothing here, and is the scheduler's to watch.
 */
export function placeOfVolume({ spec }: V1PersistentVolume): VolumePlace {
  const terms = (spec?.nodeAffinity?.required?.nodeSelectorTerms ?? []).map(labelsOf);
  // Terms are alternatives: beside one that any node meets, the others restrict nothing.
  const anyOf = terms.some((labels) => Object.keys(labels).length === 0) ? [] : terms;
  return { anyOf, movable: false };
}

function labelsOf({ matchExpressions = [], matchFields = [] }: V1NodeSelectorTerm): Record<string, string[]> {
  const labels: Record<string, string[]> = {};
  const asked = [
    ...matchExpressions,
    ...matchFields.filter(({ key }) => key === 'metadata.name').map((field) => ({ ...field, key: NODE_NAME })),
  ];
  for (const { key, operator, values = [] } of asked) {
    if (operator !== 'In') continue;
    const before = labels[key];
    labels[key] = before === undefined ? [...values] : before.filter((value) => values.includes(value));
  }
  return labels;
}

/**
 * The place of the volume behind a claim; null if it has none yet, or we may not look at volumes.
 * @throws KubernetesError if the cluster does not say
 */
export async function placeOfClaim({ core, namespace }: KubernetesClient, claim: string): Promise<VolumePlace | null> {
  const found = await attemptOrNull(`reading claim ${claim}`, () =>
    core.readNamespacedPersistentVolumeClaim({ namespace, name: claim }),
  );
  const name = found?.spec?.volumeName;
  if (name === undefined || name === '' || found?.status?.phase !== 'Bound') return null;
  try {
    return placeOfVolume(await attempt(`reading volume ${name}`, () => core.readPersistentVolume({ name })));
  } catch (error) {
    if (hasStatus(error, 403) || hasStatus(error, 404)) return null;
    throw error;
  }
}
